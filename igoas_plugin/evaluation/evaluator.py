"""Evaluator of fast-reid that ranks a block of queries at a time."""

import logging
from collections import OrderedDict

import torch.distributed as dist
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import comm
from torch import Tensor
from torch.nn.functional import normalize

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.device import usable_device
from igoas_plugin.fastreid_fixes.fix import fix

from .host_metrics import RECENT_CMC, warn_of_left_out
from .ranking import Distances, Labels, Ranked, Reranked, expand, rank_in_blocks
from .ranking.blocks import NO_MATCH
from .ranking.memory import mapped, memory_limit, room

logger = logging.getLogger(f"fastreid.{__name__}")

evaluate_on_host, process_on_host = ReidEvaluator.evaluate, ReidEvaluator.process
compile_on_host = ReidEvaluator._compile_dependencies
CHUNK = 2**14  # descriptors that are looked at at once


def ranks_on_host(cfg) -> bool:
    """Whether TEST.RANKING leaves the ranking to the host, with all distances at once.

    Raises:
        InputError: it is "blocked" and there shall be a ROC curve, which needs them all.
    """
    ranking, roc = cfg.TEST.get("RANKING", "auto"), cfg.TEST.ROC.ENABLED
    if ranking == "blocked" and roc:
        raise InputError("TEST.RANKING blocked cannot give TEST.ROC, which needs all distances: take auto or host")
    return ranking == "host" or (ranking == "auto" and roc)


def compile_dependencies(self):
    if ranks_on_host(self.cfg):
        compile_on_host(self)


def process(self, inputs, outputs):
    """ReidEvaluator.process; descriptors that are more than the memory is for go to a file in OUTPUT_DIR."""
    process_on_host(self, inputs, outputs)
    features = self._predictions[-1]["feats"].contiguous()  # a view could not be sent, and would keep what it is of
    if len(self._predictions) * features.nbytes > limit():
        features = mapped(features.shape, features.dtype, self.cfg.OUTPUT_DIR).copy_(features)
    self._predictions[-1]["feats"] = features


def limit() -> float:
    """Bytes of descriptors that this process may keep in memory."""
    return memory_limit() / comm.get_local_size()


def evaluate(self) -> dict:
    """ReidEvaluator.evaluate; see TEST.RANKING.

    Raises:
        InputError: there is no query, no gallery, or no query with a match in the gallery.
    """
    require_images(self._predictions, self._num_query)
    if ranks_on_host(self.cfg):
        try:
            return evaluate_on_host(self)
        except AssertionError as error:
            if "do not appear in gallery" not in str(error):
                raise
            raise InputError(NO_MATCH) from None
    described = gathered(self._predictions, self.cfg.OUTPUT_DIR)
    if described is None:
        return {}
    features, count = described["feats"], self._num_query
    query, gallery = (
        Labels(described["pids"][part].numpy(), described["camids"][part].numpy())
        for part in (slice(count), slice(count, None))
    )
    try:
        ranked = rank_in_blocks(distances_of(self.cfg, features, count), query, gallery)
    except ValueError as error:
        raise InputError(str(error)) from None
    RECENT_CMC.append(ranked.cmc)
    warn_of_left_out(count - len(ranked.ap), count)
    self._results = metrics_of(ranked)
    return OrderedDict(self._results)


def require_images(predictions: list[dict[str, Tensor]], queries: int) -> None:
    """Raises InputError, in every process, where there is no query or no gallery image to rank."""
    images = sum(comm.all_gather(sum(len(batch["pids"]) for batch in predictions)))
    for part, count in (("query", min(queries, images)), ("gallery", images - queries)):
        if count < 1:
            raise InputError(f"there is nothing to rank: the {part} has no image")


def distances_of(cfg, features: Tensor, count: int) -> Distances | Reranked:
    """Distances of the queries, which come first, to the gallery, a block at a time, as TEST asks for.

    Args:
        cfg: its TEST.METRIC, AQE and RERANK hold.
        features: descriptors of all images, (Q + G, D).
        count: Q.

    Raises:
        InputError: a descriptor is not finite, and AQE or RERANK would spread that.
    """
    test = cfg.TEST
    check_finite(features, test)
    if test.AQE.ENABLED:
        logger.info("Test with AQE setting")
        features = expand(features, test.AQE.QE_TIME, test.AQE.QE_K, test.AQE.ALPHA)
    distances = Distances(features[:count], features[count:], test.METRIC, usable_device(cfg.MODEL.DEVICE))
    if test.RERANK.ENABLED:
        logger.info("Test with rerank setting")
        features = normalize(features) if test.METRIC == "cosine" else features
        distances = Reranked(distances, features, test.RERANK.K1, test.RERANK.K2, test.RERANK.LAMBDA)
    return distances


def metrics_of(ranked: Ranked) -> OrderedDict:
    """The metrics by the names of the host's evaluator, in %."""
    metrics = OrderedDict((f"Rank-{rank}", 100 * ranked.cmc[rank - 1]) for rank in (1, 5, 10))
    ap, first = ranked.ap.mean(), ranked.cmc[0]
    metrics.update(mAP=100 * ap, mINP=100 * ranked.inp.mean(), metric=50 * (ap + first))
    return metrics


def gathered(predictions: list[dict[str, Tensor]], folder: str) -> dict[str, Tensor] | None:
    """What all processes have described, in the order of the data set; on the first process only, elsewhere None.

    Everything is copied once, into `room`: what has been copied, or received, is not kept beside it. The list then
    holds the whole in place of its batches.
    """
    if comm.get_world_size() == 1 and len(predictions) == 1:
        return predictions[0]
    batches_of_ranks = comm.all_gather([len(batch["pids"]) for batch in predictions])
    if not comm.is_main_process():
        for batch in predictions:
            for values in batch.values():
                dist.send(values, dst=0, group=comm._get_global_gloo_group())
        return None
    images = sum(map(sum, batches_of_ranks))
    whole = {
        name: room((images, *values.shape[1:]), values.dtype, folder, limit())
        for name, values in predictions[0].items()
    }
    end = 0
    for rank, batches in enumerate(batches_of_ranks):
        for position, length in enumerate(batches):
            start, end = end, end + length
            for name, values in whole.items():
                if rank == 0:
                    values[start:end] = predictions[position][name]
                else:
                    dist.recv(values[start:end], src=rank, group=comm._get_global_gloo_group())
            if rank == 0:
                predictions[position] = None
    predictions[:] = [whole]
    return whole


def check_finite(features: Tensor, test) -> None:
    """Warns of descriptors that hold NaN or infinity; raises InputError where they would spoil those of others."""
    broken = sum(int((~chunk.isfinite()).any(1).sum()) for chunk in features.split(CHUNK))
    if not broken:
        return
    told = f"{broken} of {len(features)} descriptors hold values that are not finite; have the weights diverged?"
    if test.AQE.ENABLED or test.RERANK.ENABLED:
        raise InputError(f"{told} TEST.AQE and TEST.RERANK need finite ones")
    logger.warning(f"{told} They are ranked last")


@fix
def rank_without_all_distances() -> None:
    """Memory: the evaluator holds every distance, and its order: 3.4 GB and 19 s for 3,368 queries of 60,000 images.

    It ranks a block of queries at a time now (evaluation/ranking), with the same figures; equal distances, which the
    host ranks in an arbitrary order, count against the model. Descriptors are copied once (those of a gallery that test
    sets share, once a set): the host held them twice, and with several processes four times. TEST.RANKING host, or a
    ROC curve, brings the host's way back.
    """
    ReidEvaluator.evaluate, ReidEvaluator.process = evaluate, process
    ReidEvaluator._compile_dependencies = compile_dependencies
