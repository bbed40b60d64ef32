"""Metrics, re-ranking and ROC files of fast-reid, patched."""

import importlib.abc
import importlib.util
import logging
import os
import pickle
import sys
import types
from collections import deque

import faiss
import numpy as np
import torch
from fastreid.evaluation import query_expansion, rank
from fastreid.utils import compute_dist, faiss_utils

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are

RECENT_CMC = deque(maxlen=64)  # the curves of the last evaluations: the host's evaluator keeps three of their ranks

evaluate_rank_on_host = rank.evaluate_rank
aqe_of_host = query_expansion.aqe


def fewest_ranked(g_pids: np.ndarray, g_camids: np.ndarray, use_metric_cuhk03: bool) -> int:
    """How long the shortest ranking is at least: same identity and camera are left out, CUHK03 ranks identities."""
    if use_metric_cuhk03:
        return len(np.unique(g_pids))
    same_camera = np.unique(np.stack([g_pids, g_camids]), axis=1, return_counts=True)[1]
    return len(g_pids) - same_camera.max(initial=0)


def evaluate_rank(distmat, q_pids, g_pids, q_camids, g_camids, max_rank=50, use_metric_cuhk03=False, use_cython=True):
    """The host's function of this name; the CMC always has `max_rank` ranks, at the end its last value repeated.

    A gallery that is too small for that gets strangers: images of identities that no query has, at infinite distance.
    They come last in every ranking, so AP and INP stay what they are. The curve is kept in RECENT_CMC. A warning tells
    how many queries are left out because nothing in the gallery matches them.
    """
    if fewest_ranked(g_pids, g_camids, use_metric_cuhk03) < max_rank:
        farthest = np.full((len(distmat), max_rank), np.inf, dtype=distmat.dtype)
        distmat = np.concatenate([distmat, farthest], axis=1)
        strangers = min(np.min(q_pids), np.min(g_pids)) - 1 - np.arange(max_rank)
        g_pids = np.concatenate([g_pids, strangers])
        g_camids = np.concatenate([g_camids, np.zeros_like(strangers)])
    ranked = evaluate_rank_on_host(distmat, q_pids, g_pids, q_camids, g_camids, max_rank, use_metric_cuhk03, use_cython)
    RECENT_CMC.append(ranked[0])
    if not use_metric_cuhk03:
        warn_of_left_out(len(q_pids) - len(ranked[1]), len(q_pids))
    return ranked


def warn_of_left_out(left_out: int, queries: int) -> None:
    if left_out:
        logger.warning(
            "%d of %d queries have no gallery image of their identity in another camera: every metric leaves them out",
            *(left_out, queries),
        )


@fix
def rank_in_small_galleries() -> None:
    """IndexError in the evaluator with fewer than 10 gallery images: there is no Rank-10.

    With a few more images than ranks the host's Python ranking fails too (ValueError: the CMC curves differ in length
    when queries lose different numbers of images to the same-camera rule), and its Cython ranking takes the missing
    ranks from the query before. Queries without a match were left out of every metric without a word.
    """
    replace_everywhere(evaluate_rank_on_host, evaluate_rank)


def aqe(query_feat, gallery_feat, qe_times=1, qe_k=10, alpha=3.0):
    """The host's function of this name; with fewer images than `qe_k` it combines what there is."""
    others = len(query_feat) + len(gallery_feat) - 1
    return aqe_of_host(query_feat, gallery_feat, qe_times, min(qe_k, others), alpha)


@fix
def expand_queries_in_small_galleries() -> None:
    """TEST.AQE: ValueError (kth out of bounds) where query and gallery together have no more than QE_K images.

    numpy's argpartition demands more elements than the neighbours that are asked for.
    """
    replace_everywhere(aqe_of_host, aqe)


@torch.no_grad()
def compute_euclidean_distance(features, others):
    """The host's function of this name: *squared* Euclidean distances of (m, D) to (n, D), a numpy array (m, n)."""
    distances = features.pow(2).sum(dim=1, keepdim=True) + others.pow(2).sum(dim=1, keepdim=True).t()
    return distances.addmm_(features, others.t(), beta=1, alpha=-2).cpu().numpy()


@fix
def multiply_with_named_factors() -> None:
    """TEST.METRIC euclidean: a deprecation warning of torch for ``addmm_(1, -2, a, b)``, which it will refuse one day.

    Same numbers from the signature with beta and alpha by name.
    """
    replace_everywhere(compute_dist.compute_euclidean_distance, compute_euclidean_distance)


@fix
def name_bool_in_cuhk03_protocol() -> str | None:
    """AttributeError in the CUHK03 protocol: numpy 1.24 to 1.26 have no np.bool.

    The host's ranking gets a numpy that has it; numpy itself is left alone.
    """
    if "bool" in vars(np):  # numpy 1 warns where it is asked for it
        return "this numpy has np.bool"
    rank.np = types.SimpleNamespace(**{**vars(np), "bool": bool})


@fix
def log_warnings_by_their_name() -> str | None:
    """AttributeError in DefaultTrainer.test without an evaluator: logger.warn, deprecated, may leave Python.

    Only the logger of that module gets the old name.
    """
    if hasattr(logging.Logger, "warn"):
        return "this Python's loggers still have the method warn"
    logger = logging.getLogger("fastreid.engine.defaults")
    logger.warn = logger.warning


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


# What numpy 1 and 2 name in the pickle of an array of numbers
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class ArraysOnly(pickle.Unpickler):
    """An unpickler that knows arrays and plain values, and executes nothing."""

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no array")
        return super().find_class(module, name)


def load_roc_info(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Visualizer.load_roc_info; raises InputError where the file holds anything but arrays and plain values."""
    try:
        with open(path, "rb") as file:
            return ArraysOnly(file).load()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # whatever pickle meets in a file that is damaged
        raise InputError(f"{path} is no file of save_roc_info(): {' '.join(str(error).split())}") from error


class MendWhenLoaded(importlib.abc.MetaPathFinder):
    """Mends the host's visualizer when somebody loads it: with what it draws by, that takes seconds."""

    MODULE = "fastreid.utils.visualizer"

    def find_spec(self, name, path, target=None):
        if name != self.MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_mend(module):
            load(module)
            mend(module)

        spec.loader.exec_module = load_and_mend
        return spec


def mend(visualizer) -> None:
    visualizer.Visualizer.load_roc_info = staticmethod(load_roc_info)


@fix
def read_roc_files_without_executing_them() -> None:
    """Visualizer.load_roc_info executes whatever the pickle that it is given says."""
    if MendWhenLoaded.MODULE in sys.modules:
        mend(sys.modules[MendWhenLoaded.MODULE])
    else:
        sys.meta_path.insert(0, MendWhenLoaded())
