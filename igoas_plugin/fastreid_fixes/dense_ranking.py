"""Fixes of fast-reid's own ranking, which holds the distances of all queries to all gallery images at once."""

import logging
import sys
import types
from collections import deque
from importlib.util import find_spec

import faiss
import numpy as np
import torch
from fastreid import evaluation
from fastreid.evaluation import ReidEvaluator, query_expansion, rank, reid_evaluation, roc
from fastreid.utils import compute_dist, faiss_utils

from .fix import fix, replace_everywhere

logger = logging.getLogger(f"fastreid.{__name__}")  # below "fastreid", so that log.txt gets its lines

# CMC curves of the last evaluations; the results of fast-reid's evaluator hold three ranks only
RECENT_CMC = deque(maxlen=64)

original_evaluate_rank = rank.evaluate_rank
original_aqe = query_expansion.aqe
original_jaccard_distance = compute_dist.compute_jaccard_distance


@fix
def rank_in_python() -> None:
    """A training exits without metrics after its last epoch if the Cython ranking cannot be compiled.

    Cause: the evaluator runs ``make`` inside the installed package, with the first python3 on PATH, and calls sys.exit
    if that fails. Now fast-reid's Python ranking is always used. Upstream: fast-reid #387.
    """
    ReidEvaluator._compile_dependencies = lambda self: None
    rank.IS_CYTHON_AVAI = roc.IS_CYTHON_AVAI = False


def shortest_ranking(g_pids: np.ndarray, g_camids: np.ndarray, use_metric_cuhk03: bool) -> int:
    """Returns a lower bound of the number of gallery images that any query ranks."""
    if use_metric_cuhk03:  # ranks one image an identity
        return len(np.unique(g_pids))
    # the Market-1501 protocol leaves out images of the query's identity and camera
    same_camera = np.unique(np.stack([g_pids, g_camids]), axis=1, return_counts=True)[1]
    return len(g_pids) - same_camera.max(initial=0)


def evaluate_rank(distmat, q_pids, g_pids, q_camids, g_camids, max_rank=50, use_metric_cuhk03=False, use_cython=True):
    """Replaces fast-reid's function of this name; the CMC curve always has `max_rank` values.

    A gallery that is too small is filled up with images at infinite distance, of identities that no query has. They
    come last in every ranking, so that AP and INP do not change. The curve is also appended to RECENT_CMC.
    """
    if shortest_ranking(g_pids, g_camids, use_metric_cuhk03) < max_rank:
        farthest = np.full((len(distmat), max_rank), np.inf, dtype=distmat.dtype)
        distmat = np.concatenate([distmat, farthest], axis=1)
        strangers = min(np.min(q_pids), np.min(g_pids)) - 1 - np.arange(max_rank)
        g_pids = np.concatenate([g_pids, strangers])
        g_camids = np.concatenate([g_camids, np.zeros_like(strangers)])
    labels = q_pids, g_pids, q_camids, g_camids
    ranked = original_evaluate_rank(distmat, *labels, max_rank, use_metric_cuhk03, use_cython)
    RECENT_CMC.append(ranked[0])
    if not use_metric_cuhk03:
        warn_of_left_out(len(q_pids) - len(ranked[1]), len(q_pids))
    return ranked


def warn_of_left_out(left_out: int, queries: int) -> None:
    """Logs how many queries have no match in the gallery, if any."""
    if left_out:
        logger.warning(
            "%d of %d queries have no gallery image of their identity in another camera: every metric leaves them out",
            *(left_out, queries),
        )


@fix
def rank_in_small_galleries() -> None:
    """IndexError in the evaluator if the gallery has fewer than 10 images.

    Cause: the CMC curve has as many values as the gallery has images, so there is no Rank-10. With some more images the
    Python ranking raises a ValueError: queries lose different numbers of images to the same-camera rule, and their CMC
    curves differ in length. Also, queries without a match were left out of every metric without a word in the log.
    """
    replace_everywhere(original_evaluate_rank, evaluate_rank)


@fix
def export_evaluate_rank() -> None:
    """ImportError in demo/visualize_result.py of fast-reid: fastreid.evaluation does not export evaluate_rank."""
    if not hasattr(evaluation, "evaluate_rank"):
        evaluation.evaluate_rank = evaluate_rank
        evaluation.__all__.append("evaluate_rank")


# FPR at which fast-reid's evaluator gives the TPR, which it looks up in what the curve returns
TARGETS = (1e-4, 1e-3, 1e-2)


def evaluate_roc(distmat, q_pids, g_pids, q_camids, g_camids, use_cython=True):
    """Replaces fast-reid's function of this name; genuine pairs are the positive class.

    A pair is a query and a gallery image. It is genuine if they have one identity, else it is an impostor pair. Genuine
    pairs of one camera are left out.

    Args:
        distmat: distances, shape (Q, G).
        q_pids, g_pids, q_camids, g_camids: identities and cameras, shapes (Q,) and (G,).
        use_cython: not used.

    Returns:
        scores (N,), the negated distances, and labels (N,), 1.0 for a genuine pair and 0.0 for an impostor pair. They
        are the first two arguments of scikit-learn's roc_curve in reverse order.
    """
    genuine = q_pids[:, None] == g_pids
    kept = ~(genuine & (q_camids[:, None] == g_camids))
    return -distmat[kept], genuine[kept].astype(float)


def tpr_at_targets(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Replaces scikit-learn's roc_curve in fast-reid's evaluator, which looks up the TPR at TARGETS.

    The evaluator takes the point whose FPR is nearest to a target. Only the points that it should find are returned:
    the largest TPR of any threshold at which FPR does not exceed the target.

    Args:
        labels, scores: as evaluate_roc() returns them.

    Returns:
        TARGETS, the TPR at each in %, and the threshold that scores must exceed, shape (3,) each. Without impostor
        pairs nothing can be accepted wrongly: the TPR is 100.

    Example:
        Three of four genuine pairs score higher than all ten impostor pairs.

        >>> labels, scores = np.array([1] * 4 + [0] * 10), np.array([9, 8, 7, 2, *range(-4, 6)])
        >>> tpr_at_targets(labels, scores)[1]
        array([75., 75., 75.])
    """
    genuine, impostor = scores[labels == 1], np.append(np.sort(scores[labels == 0])[::-1], -np.inf)
    pairs = max(len(impostor) - 1, 1)
    nearest = [round(target * pairs) for target in TARGETS]
    # numbers of impostor pairs that may be accepted; the score of the next one is the threshold
    accepted = [count - (count / pairs > target) for count, target in zip(nearest, TARGETS, strict=True)]
    thresholds = impostor[accepted]
    return np.array(TARGETS), 100 * np.mean(genuine > thresholds[:, None], axis=1), thresholds


@fix
def find_genuine_pairs_by_the_roc() -> None:
    """TPR@FPR (TEST.ROC.ENABLED) is wrong for every model: it is 0 if the distances separate all pairs perfectly.

    Cause: impostor pairs are the positive class, the evaluator takes the nearest FPR, of equal ones the first, which is
    the point (0, 0), and the TPR is a fraction among metrics in %.
    """
    replace_everywhere(roc.evaluate_roc, evaluate_roc)
    reid_evaluation.metrics = types.SimpleNamespace(roc_curve=tpr_at_targets)


VISUALIZER = "fastreid.utils.visualizer"


def exchange_classes(visualizer: types.ModuleType) -> None:
    """Makes genuine pairs the positive class where fast-reid's visualizer calls scikit-learn."""
    roc_curve = visualizer.metrics.roc_curve
    visualizer.metrics = types.SimpleNamespace(roc_curve=lambda labels, scores: roc_curve(1 - labels, -scores))


@fix
def draw_the_roc_of_genuine_pairs() -> None:
    """The ROC curve of demo/visualize_result.py (Visualizer.vis_roc_curve) is that of the impostor pairs.

    Cause: impostor pairs are the positive class, as in fast-reid's evaluator. The import of the visualizer takes
    seconds, so that it is left to those who use it, and its loader calls exchange_classes().
    """
    spec = find_spec(VISUALIZER)
    if VISUALIZER in sys.modules:
        exchange_classes(sys.modules[VISUALIZER])
    elif spec is not None:
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), exchange_classes(module))
        sys.meta_path.insert(0, types.SimpleNamespace(find_spec=lambda name, *_: spec if name == VISUALIZER else None))


def aqe(query_feat, gallery_feat, qe_times=1, qe_k=10, alpha=3.0):
    """Replaces fast-reid's function of this name; with fewer images than `qe_k` it averages those that there are."""
    others = len(query_feat) + len(gallery_feat) - 1
    return original_aqe(query_feat, gallery_feat, qe_times, min(qe_k, others), alpha)


@fix
def expand_queries_in_small_galleries() -> None:
    """ValueError with TEST.AQE if query and gallery together have no more than QE_K images.

    Cause: numpy.argpartition raises "kth out of bounds" if there are fewer images than neighbours.
    """
    replace_everywhere(original_aqe, aqe)


@fix
def name_bool_in_cuhk03_protocol() -> None:
    """AttributeError in the CUHK03 protocol with numpy 1.24 to 1.26.

    Cause: these versions have no np.bool. Only fast-reid's module gets a numpy with that name.
    """
    rank.np = types.SimpleNamespace(**{**vars(np), "bool": bool})


class FlatIndex:
    """Exact index of nearest neighbours by squared Euclidean distance, on the CPU.

    A search returns at most as many neighbours as there are images. faiss fills up with the index -1, which numpy takes
    for the last image.
    """

    def __init__(self, feat_dim: int):
        self.index = faiss.IndexFlatL2(feat_dim)

    def add(self, features: np.ndarray) -> None:
        self.index.add(features)

    def search(self, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        return self.index.search(features, min(count, self.index.ntotal))


@torch.no_grad()
def compute_jaccard_distance(features, k1=20, k2=6, search_option=0, fp16=False):
    """Replaces fast-reid's function of this name; it computes on the CPU.

    Args:
        features: descriptors of query and gallery images, shape (N, D), on any device.
        k1: neighbours that count as close.
        k2: neighbours over which an encoding is averaged.
        search_option: not used; fast-reid chooses its search on a GPU by it.
        fp16: whether the distances are float16.

    Returns:
        numpy array of shape (N, N).
    """
    return original_jaccard_distance(features.float().cpu(), k1, k2, search_option=3, fp16=fp16)  # 3: on the CPU


@fix
def rerank_on_the_cpu() -> None:
    """TEST.RERANK raises a RuntimeError without a GPU, and an AttributeError (cast_integer_to_long_ptr) with one.

    Cause: fast-reid searches neighbours by ``features.cuda()`` and by functions that faiss has renamed since. All other
    steps of its re-ranking run on the CPU anyway. Upstream: fast-reid #498, #515.
    """
    replace_everywhere(original_jaccard_distance, compute_jaccard_distance)
    replace_everywhere(faiss_utils.index_init_cpu, FlatIndex)
