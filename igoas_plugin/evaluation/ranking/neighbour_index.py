"""Search indexes of faiss for the nearest descriptors."""

import math
from typing import BinaryIO

import faiss
import numpy as np

# Names of faiss's index_factory. lists: groups of an inverted file; bytes: of a compressed descriptor; np: without
# polysemous training, which takes minutes and is for searches that are not used here
KINDS = {"flat": "Flat", "ivf": "IVF{lists},Flat", "hnsw": "HNSW32,Flat", "pq": "PQ{bytes}np"}
PROBED = 16  # groups of an inverted file that a search compares with
PER_LIST = 64  # descriptors for each group
VALUES_PER_BYTE = 8  # of a descriptor, compressed into one byte
CODES = 256  # values of a byte


class SearchIndex:
    """Index of descriptors that finds the nearest ones by cosine similarity, by one of four kinds of faiss index.

    ========  ====================================================================================================
    flat      compares with every descriptor: exact
    ivf       inverted file: compares with the descriptors of the 16 nearest groups, which is faster
    hnsw      graph of neighbours: fastest in large galleries, slow to build, a little larger than flat
    pq        product quantisation: stores a descriptor in D / 8 bytes, a 32nd of its size, and compares with all
    ========  ====================================================================================================

    With faiss-gpu and a GPU, flat and ivf are searched there. faiss has the other two on the CPU only.

    Args:
        width: D of the descriptors.
        kind: one of KINDS.
        expected: number of descriptors that will be added; it sets the number of groups.

    Raises:
        ValueError: the kind is unknown, or pq gets a width that is no multiple of 8.

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
            raise ValueError(f"the width of pq must be a multiple of {VALUES_PER_BYTE}, got {width}")
        lists = max(min(round(4 * math.sqrt(expected)), expected // PER_LIST), 1)
        name = KINDS[kind].format(lists=lists, bytes=width // VALUES_PER_BYTE)
        self.learns_from = {"ivf": lists, "pq": CODES}.get(kind, 0)
        self.index = faiss.index_factory(width, name, faiss.METRIC_INNER_PRODUCT)
        if kind == "ivf":
            self.index.nprobe = PROBED
        if self.learns_from:  # else faiss warns on stderr of few descriptors; add() refuses too few
            (self.index if kind == "ivf" else self.index.pq).cp.min_points_per_centroid = 1
        self.kind, self.index = kind, on_gpus(self.index, kind)

    def __len__(self) -> int:
        return self.index.ntotal

    def add(self, descriptors: np.ndarray) -> None:
        """Adds descriptors, float32, shape (N, D); they need not be normalised.

        ivf and pq are trained on the first call's descriptors. More of them make a better index.

        Raises:
            ValueError: the first call has fewer descriptors than groups (ivf), or than 256 (pq).
        """
        unit = normalised(descriptors)
        if not self.index.is_trained:
            if len(unit) < self.learns_from:
                raise ValueError(
                    f"{self.kind} is trained on the first descriptors: add at least {self.learns_from} of them at once"
                )
            self.index.train(unit)
        self.index.add(unit)

    def search(self, descriptors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the nearest descriptors of each query, best first.

        Args:
            descriptors: of the queries, shape (Q, D), float32.
            count: number of neighbours; at most all that were added are returned.

        Returns:
            Cosine similarities (approximate for pq) and positions in the order of adding, shape (Q, count) each. If a
            search finds fewer, the last positions are -1.
        """
        threads = faiss.omp_get_max_threads()
        # a thread without a query only waits, and slows the search down on a busy machine
        faiss.omp_set_num_threads(max(min(threads, len(descriptors)), 1))
        try:
            return self.index.search(normalised(descriptors), min(count, len(self)))
        finally:
            faiss.omp_set_num_threads(threads)

    def write(self, file: BinaryIO) -> None:
        """Writes the index in faiss's format; faiss.read_index() reads it too."""
        index = faiss.index_gpu_to_cpu(self.index) if gpus(self.kind) else self.index
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))

    @classmethod
    def read(cls, file: BinaryIO, kind: str) -> "SearchIndex":
        """Reads an index of this kind from a file of write(); raises RuntimeError if the file is no whole index."""
        stored = faiss.read_index(faiss.PyCallbackIOReader(file.read))
        index = cls(stored.d, kind, stored.ntotal)
        index.index = on_gpus(stored, kind)
        return index


def gpus(kind: str) -> int:
    """Returns how many GPUs search an index of this kind."""
    return faiss.get_num_gpus() if kind in ("flat", "ivf") and hasattr(faiss, "index_cpu_to_all_gpus") else 0


def on_gpus(index: faiss.Index, kind: str) -> faiss.Index:
    """Moves an index to all GPUs if its kind is searched there."""
    return faiss.index_cpu_to_all_gpus(index) if gpus(kind) else index


def normalised(descriptors: np.ndarray) -> np.ndarray:
    """Returns a copy with rows of length 1; rows of zeros stay zero."""
    unit = np.array(descriptors, np.float32, order="C")
    faiss.normalize_L2(unit)
    return unit


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Returns the share of the exact neighbours that were found, in [0, 1].

    Args:
        found, exact: positions of the neighbours of each query, shape (Q, K).

    Example:
        >>> recall(np.array([[3, 1], [2, -1]]), np.array([[1, 3], [0, 2]]))
        0.75
    """
    hits = sum(len(np.intersect1d(ours, theirs)) for ours, theirs in zip(found, exact, strict=True))
    return hits / exact.size
