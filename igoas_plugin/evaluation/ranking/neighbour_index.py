import math
from typing import BinaryIO

import faiss
import numpy as np

# By kind, how faiss's index_factory names it; lists: groups of an inverted file, bytes: of a compressed descriptor; np:
# without the polysemous training, which takes minutes and serves searches that are not used here
KINDS = {"flat": "Flat", "ivf": "IVF{lists},Flat", "hnsw": "HNSW32,Flat", "pq": "PQ{bytes}np"}
PROBED = 16  # groups of an inverted file that a search looks into
PER_LIST = 64  # descriptors that a group is learnt from
VALUES_PER_BYTE = 8  # of a descriptor that a compressed one keeps as one byte
CODES = 256  # values of such a byte


class SearchIndex:
    """The nearest descriptors by cosine similarity, in one of four kinds of faiss index.

    ========  ====================================================================================================
    flat      compares with every descriptor: exact
    ivf       inverted file: compares with those of the 16 nearest groups, faster
    hnsw      graph of neighbours: fastest in large galleries, slow to build, a little larger than flat
    pq        product quantisation: a descriptor is kept as D / 8 bytes, a 32nd of its size, and compared with all
    ========  ====================================================================================================

    With faiss-gpu and a GPU flat and ivf are searched there; faiss has the other two for the CPU only.

    Args:
        width: D of the descriptors.
        kind: one of KINDS.
        expected: how many descriptors it will hold, for the number of groups.

    Raises:
        ValueError: another kind; or pq, and 8 does not divide the width.

    Example:
        >>> index = SearchIndex(width=2, kind="flat", expected=3)
        >>> index.add(np.array([[1, 0], [0, 2], [3, 3]], np.float32))
        >>> similarities, positions = index.search(np.array([[5, 1]], np.float32), 2)
        >>> positions
        array([[0, 2]])
    """

    def __init__(self, width: int, kind: str, expected: int):
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind}")
        if kind == "pq" and width % VALUES_PER_BYTE:
            raise ValueError(f"pq is for widths that {VALUES_PER_BYTE} divides, got {width}")
        lists = max(min(round(4 * math.sqrt(expected)), expected // PER_LIST), 1)
        name = KINDS[kind].format(lists=lists, bytes=width // VALUES_PER_BYTE)
        self.learns_from = {"ivf": lists, "pq": CODES}.get(kind, 0)
        self.index = faiss.index_factory(width, name, faiss.METRIC_INNER_PRODUCT)
        if kind == "ivf":
            self.index.nprobe = PROBED
        if self.learns_from:  # faiss warns on stderr of fewer than it likes; what is too few is refused below
            (self.index if kind == "ivf" else self.index.pq).cp.min_points_per_centroid = 1
        self.kind, self.index = kind, on_gpus(self.index, kind)

    def __len__(self) -> int:
        return self.index.ntotal

    def add(self, descriptors: np.ndarray) -> None:
        """Adds descriptors (N, D), float32, of any length.

        The first ones that are added to ivf and pq are what it learns from: the more of them, the better it groups.

        Raises:
            ValueError: those are fewer than its groups (ivf), or than 256 (pq).
        """
        unit = normalised(descriptors)
        if not self.index.is_trained:
            if len(unit) < self.learns_from:
                raise ValueError(
                    f"it learns from the first descriptors: add at least {self.learns_from} of them at once"
                )
            self.index.train(unit)
        self.index.add(unit)

    def search(self, descriptors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest of each descriptor, best first.

        Args:
            descriptors: shape (Q, D), float32.
            count: how many; no more than there are.

        Returns:
            Cosine similarities (of pq approximate) and positions in the order of adding, shape (Q, count) each; where a
            search finds fewer, position -1 at the end.
        """
        threads = faiss.omp_get_max_threads()
        # a thread that has no query of its own only waits, and on a busy machine all wait for it
        faiss.omp_set_num_threads(max(min(threads, len(descriptors)), 1))
        try:
            return self.index.search(normalised(descriptors), min(count, len(self)))
        finally:
            faiss.omp_set_num_threads(threads)

    def write(self, file: BinaryIO) -> None:
        """Writes it as faiss does: faiss.read_index() reads it too."""
        index = faiss.index_gpu_to_cpu(self.index) if gpus(self.kind) else self.index
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))

    @classmethod
    def read(cls, file: BinaryIO, kind: str) -> "SearchIndex":
        """What write() wrote of an index of this kind; raises RuntimeError where the file is another or cut off."""
        stored = faiss.read_index(faiss.PyCallbackIOReader(file.read))
        index = cls(stored.d, kind, stored.ntotal)
        index.index = on_gpus(stored, kind)
        return index


def gpus(kind: str) -> int:
    """How many GPUs an index of this kind is searched on."""
    return faiss.get_num_gpus() if kind in ("flat", "ivf") and hasattr(faiss, "index_cpu_to_all_gpus") else 0


def on_gpus(index: faiss.Index, kind: str) -> faiss.Index:
    return faiss.index_cpu_to_all_gpus(index) if gpus(kind) else index


def normalised(descriptors: np.ndarray) -> np.ndarray:
    """A copy with rows of length 1; rows of zeros stay."""
    unit = np.array(descriptors, np.float32, order="C")
    faiss.normalize_L2(unit)
    return unit


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact neighbours that were found, in [0, 1].

    Args:
        found, exact: positions of the neighbours of each query, shape (Q, K).

    Example:
        >>> recall(np.array([[3, 1], [2, -1]]), np.array([[1, 3], [0, 2]]))
        0.75
    """
    hits = sum(len(np.intersect1d(ours, theirs)) for ours, theirs in zip(found, exact, strict=True))
    return hits / exact.size
