import faiss
import numpy as np
import torch
from fastreid.utils import compute_dist, faiss_utils

from .fix import fix, replace_everywhere

compute_on_host = compute_dist.compute_jaccard_distance


class FlatIndex:
    """Nearest neighbours by squared Euclidean distance, on the CPU; never more of them than there are images."""

    def __init__(self, feat_dim: int):
        self.index = faiss.IndexFlatL2(feat_dim)

    def add(self, features: np.ndarray) -> None:
        self.index.add(features)

    def search(self, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        return self.index.search(features, min(count, self.index.ntotal))


@torch.no_grad()
def compute_jaccard_distance(features, k1=20, k2=6, search_option=0, fp16=False):
    """The host's function of this name, computed on the CPU.

    Args:
        features: of query and gallery images, shape (N, D), on any device.
        k1: neighbours that count as close.
        k2: neighbours over which the encoding is averaged.
        search_option: which way of faiss the host would take; its CPU way (3) is taken whatever it says.
        fp16: halves the memory of the distances.

    Returns:
        numpy array of shape (N, N).
    """
    return compute_on_host(features.float().cpu(), k1, k2, search_option=3, fp16=fp16)


@fix
def rerank_on_the_cpu() -> None:
    """TEST.RERANK: RuntimeError without a GPU, AttributeError (cast_integer_to_long_ptr) with one.

    build_dist always asks for search_option 0: ``features.cuda()``, then faiss calls that faiss has renamed since. The
    search is a small part of the time; the rest of the host's code runs on the CPU anyway. With fewer images than K1,
    faiss fills up with the index -1, which numpy takes for the last image. Upstream: fast-reid #498, #515.
    """
    replace_everywhere(compute_on_host, compute_jaccard_distance)
    replace_everywhere(faiss_utils.index_init_cpu, FlatIndex)
