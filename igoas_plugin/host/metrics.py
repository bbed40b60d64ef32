import logging
import types
from collections import deque

import numpy as np
import torch
from fastreid.evaluation import query_expansion, rank
from fastreid.utils import compute_dist

from .fix import fix, replace_everywhere

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
