"""Evaluator of fast-reid that ranks the queries in blocks, instead of holding all distances at once."""

import logging
from collections import OrderedDict

import torch
import torch.distributed as dist
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import comm
from torch import Tensor
from torch.nn.functional import normalize

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.dense_ranking import RECENT_CMC, warn_of_left_out
from igoas_plugin.fastreid_fixes.device import usable_device
from igoas_plugin.fastreid_fixes.fix import fix

from .ranking import Distances, Labels, Ranked, Reranked, centralise, expand, memory, rank_in_blocks
from .ranking.blocks import NO_IMAGE, NO_MATCH

logger = logging.getLogger(f"fastreid.{__name__}")

evaluate_densely, original_process = ReidEvaluator.evaluate, ReidEvaluator.process
CHUNK = 2**14  # descriptors that are checked at once


def ranks_densely(cfg) -> bool:
    """Returns whether fast-reid's own ranking is used, which holds all distances at once.

    Raises:
        InputError: TEST.RANKING is "blocked" and TEST.ROC is on.
    """
    ranking, roc = cfg.TEST.get("RANKING", "auto"), cfg.TEST.ROC.ENABLED
    if ranking == "blocked" and roc:
        raise InputError("TEST.RANKING blocked cannot give TEST.ROC, which needs all distances: take auto or host")
    return ranking == "host" or (ranking == "auto" and roc)


def applies_camera_rule(cfg) -> bool:
    """Returns TEST.CAMERA_RULE; True for a config of fast-reid, which has no such key."""
    return cfg.TEST.get("CAMERA_RULE", True)


def applies_nfc(cfg) -> bool:
    """Returns TEST.NFC.ENABLED; False for a config of fast-reid, which has no such key."""
    return "NFC" in cfg.TEST and cfg.TEST.NFC.ENABLED


def process(self, inputs, outputs):
    """Replaces ReidEvaluator.process; descriptors beyond the memory limit are kept in a file in OUTPUT_DIR."""
    original_process(self, inputs, outputs)
    # a view could not be sent to another process, and would keep the whole tensor in memory
    features = self._predictions[-1]["feats"].contiguous()
    if len(self._predictions) * features.nbytes > memory.memory_limit():
        features = memory.allocate_in_file(features.shape, features.dtype, self.cfg.OUTPUT_DIR).copy_(features)
    self._predictions[-1]["feats"] = features


def evaluate(self) -> dict:
    """Replaces ReidEvaluator.evaluate; ranks as TEST.RANKING says.

    Raises:
        InputError: there is no query, no gallery, or no query with a match in the gallery.
    """
    require_images(self._predictions, self._num_query)
    camera_rule = applies_camera_rule(self.cfg)
    if ranks_densely(self.cfg):
        given = self._predictions
        try:
            if applies_nfc(self.cfg):
                self._predictions = with_neighbours(self.cfg, given, self._num_query)
            if not camera_rule:
                self._predictions = one_camera_an_image(self._predictions)
            return evaluate_densely(self)
        except AssertionError as error:
            if "do not appear in gallery" not in str(error):
                raise
            raise InputError(NO_MATCH if camera_rule else NO_IMAGE) from None
        finally:
            self._predictions = given
    predictions = gather(self._predictions, self.cfg.OUTPUT_DIR)
    if predictions is None:
        return {}
    features, count = predictions["feats"], self._num_query
    query, gallery = (
        Labels(predictions["pids"][part].numpy(), predictions["camids"][part].numpy())
        for part in (slice(count), slice(count, None))
    )
    ranked = rank_in_blocks(distances_of(self.cfg, features, count), query, gallery, camera_rule=camera_rule)
    RECENT_CMC.append(ranked.cmc)
    warn_of_left_out(count - len(ranked.ap), count)
    self._results = metrics_of(ranked)
    return OrderedDict(self._results)


def with_neighbours(cfg, predictions: list[dict[str, Tensor]], count: int) -> list[dict[str, Tensor]]:
    """Returns the predictions of all processes after TEST.NFC on the first process, [] on the others."""
    gathered = gather(predictions, cfg.OUTPUT_DIR)
    return [] if gathered is None else [{**gathered, "feats": centralised(cfg, gathered["feats"], count)}]


def one_camera_an_image(predictions: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Returns the predictions of this process with cameras of which none, in any process, has two images."""
    first, changed = comm.get_rank() << 40, []
    for batch in predictions:
        changed.append({**batch, "camids": first + torch.arange(len(batch["pids"]))})
        first += len(batch["pids"])
    return changed


def require_images(predictions: list[dict[str, Tensor]], queries: int) -> None:
    """Raises InputError in every process if there is no query or no gallery image."""
    images = sum(comm.all_gather(sum(len(batch["pids"]) for batch in predictions)))
    for part, count in (("query", min(queries, images)), ("gallery", images - queries)):
        if count < 1:
            raise InputError(f"there is nothing to rank: the {part} has no image")


def distances_of(cfg, features: Tensor, count: int) -> Distances | Reranked:
    """Returns the distances of the queries to the gallery, as blocks of queries.

    Args:
        cfg: TEST.METRIC, TEST.NFC, TEST.AQE, TEST.RERANK and MODEL.DEVICE are read.
        features: descriptors of the queries, then of the gallery, shape (Q + G, D).
        count: Q.

    Raises:
        InputError: a descriptor is not finite, and NFC, AQE or RERANK would spread it to others.
    """
    test = cfg.TEST
    features = centralised(cfg, features, count)
    if test.AQE.ENABLED:
        logger.info("Test with AQE setting")
        features = expand(features, test.AQE.QE_TIME, test.AQE.QE_K, test.AQE.ALPHA)
    distances = Distances(features[:count], features[count:], test.METRIC, usable_device(cfg.MODEL.DEVICE))
    if test.RERANK.ENABLED:
        logger.info("Test with rerank setting")
        features = normalize(features) if test.METRIC == "cosine" else features
        distances = Reranked(distances, features, test.RERANK.K1, test.RERANK.K2, test.RERANK.LAMBDA)
    return distances


def centralised(cfg, features: Tensor, count: int) -> Tensor:
    """Returns the descriptors after TEST.NFC, those of the `count` queries first; the given ones if it is off."""
    check_finite(features, cfg)
    if not applies_nfc(cfg):
        return features
    nfc = cfg.TEST.NFC
    logger.info("Test with NFC setting")
    return centralise(features, 0 if nfc.SIDES == "both" else count, nfc.K, nfc.SIMILARITY)


def check_finite(features: Tensor, cfg) -> None:
    """Warns of descriptors that hold NaN or infinity; raises InputError if TEST.NFC, AQE or RERANK is on."""
    broken = sum(int((~chunk.isfinite()).any(1).sum()) for chunk in features.split(CHUNK))
    if not broken:
        return
    message = f"{broken} of {len(features)} descriptors hold values that are not finite; have the weights diverged?"
    if applies_nfc(cfg) or cfg.TEST.AQE.ENABLED or cfg.TEST.RERANK.ENABLED:
        raise InputError(f"{message} TEST.NFC, TEST.AQE and TEST.RERANK need finite ones")
    logger.warning(f"{message} They are ranked last")


def metrics_of(ranked: Ranked) -> OrderedDict:
    """Returns the metrics in %, by the names of fast-reid's evaluator."""
    metrics = OrderedDict((f"Rank-{rank}", 100 * ranked.cmc[rank - 1]) for rank in (1, 5, 10))
    ap, first = ranked.ap.mean(), ranked.cmc[0]
    metrics.update(mAP=100 * ap, mINP=100 * ranked.inp.mean(), metric=50 * (ap + first))
    return metrics


def gather(predictions: list[dict[str, Tensor]], folder: str) -> dict[str, Tensor] | None:
    """Gathers the predictions of all processes on the first one, in the order of the data set.

    Each tensor is copied once, and no batch is kept beside its copy: the list then holds the result alone.

    Args:
        predictions: batches of this process, as ReidEvaluator.process() keeps them.
        folder: of the file that holds what is too large for the memory.

    Returns:
        {"feats": (N, D), "pids": (N,), "camids": (N,)}, or None on all processes but the first.
    """
    if comm.get_world_size() == 1 and len(predictions) == 1:
        return predictions[0]
    lengths_of_ranks = comm.all_gather([len(batch["pids"]) for batch in predictions])
    if not comm.is_main_process():
        for batch in predictions:
            for values in batch.values():
                dist.send(values, dst=0, group=comm._get_global_gloo_group())
        return None
    images = sum(map(sum, lengths_of_ranks))
    gathered = {
        name: memory.allocate((images, *values.shape[1:]), values.dtype, folder)
        for name, values in predictions[0].items()
    }
    end = 0
    for rank, lengths in enumerate(lengths_of_ranks):
        for position, length in enumerate(lengths):
            start, end = end, end + length
            for name, values in gathered.items():
                if rank == 0:
                    values[start:end] = predictions[position][name]
                else:
                    dist.recv(values[start:end], src=rank, group=comm._get_global_gloo_group())
            if rank == 0:
                predictions[position] = None
    predictions[:] = [gathered]
    return gathered


@fix
def rank_without_all_distances() -> None:
    """The ranking takes much memory and time: 3.4 GB and 19 s for 3,368 queries in 60,000 images.

    Cause: its evaluator holds all distances and their order, and the descriptors twice (four times with several
    processes). Now the queries are ranked in blocks (see evaluation/ranking), with the same metrics; equal distances,
    which fast-reid ranks in arbitrary order, count against the model. TEST.RANKING host, or a ROC curve, uses
    fast-reid's ranking.
    """
    ReidEvaluator.evaluate, ReidEvaluator.process = evaluate, process
