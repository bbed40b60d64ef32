"""Summary at the end of a training."""

import logging
import math
import sys
import time
from datetime import timedelta

from fastreid.engine.defaults import DefaultTrainer
from fastreid.engine.hooks import IterationTimer
from fastreid.utils import comm
from tabulate import tabulate

from igoas_plugin.core.console_log import on_console
from igoas_plugin.fastreid_fixes.async_metrics import HostStorage

from .checkpoints import best_of

logger = logging.getLogger("fastreid.igoas_plugin")


class SummaryTimer(IterationTimer):
    """Timer of fast-reid that logs a summary at the end: model, data, epochs, duration, speed and best result."""

    def before_train(self):
        super().before_train()
        self._began = time.perf_counter()

    def after_train(self):
        trainer = self.trainer
        if not comm.is_main_process() or trainer.iter == trainer.start_iter:
            return
        now = time.perf_counter()
        rows = summary(trainer, now - self._began, now - self._start_time - self._total_timer.seconds())
        failed = sys.exc_info()[0] is not None  # fast-reid calls the hook after an exception too
        done = trainer.iter == trainer.max_iter and not failed
        title = "Training is done" if done else "Training stopped before its end"
        # the console has told model and data at the beginning
        texts = (f"{title}\n{tabulate(each, tablefmt='plain', disable_numparse=True)}" for each in (rows, rows[2:]))
        logger.info(next(texts), extra=on_console(next(texts)))


def architecture(cfg) -> str:
    """Returns meta-architecture and backbone of a config, such as ``IGOAS, resnet 50x``."""
    backbone = cfg.MODEL.BACKBONE
    name = backbone.NAME.removeprefix("build_").removesuffix("_backbone")
    return f"{cfg.MODEL.META_ARCHITECTURE}, {name} {backbone.DEPTH}"


def summary(trainer: DefaultTrainer, seconds: float, outside: float) -> list[tuple[str, str]]:
    """Returns the rows (name, text) of the summary of a training that has done at least one iteration.

    Args:
        trainer: trainer after the training; its `start_epoch` is not 0 if the training was resumed.
        seconds: time since the training began.
        outside: part of `seconds` between the steps.
    """
    cfg, images = trainer.cfg, trainer.data_loader.dataset
    batch = cfg.SOLVER.IMS_PER_BATCH
    kind = "identities" if hasattr(images, "pids") else "classes"  # of a project's data set, such as attributes
    resumed = f", resumed after epoch {trainer.start_epoch}" if trainer.start_epoch else ""
    rows = [
        ("model", architecture(cfg)),
        ("data", f"{', '.join(cfg.DATASETS.NAMES)}: {len(images):,} images of {images.num_classes:,} {kind}"),
        ("epochs", f"{trainer.iter // trainer.iters_per_epoch} of {trainer.max_epoch}{resumed}"),
        ("iterations", f"{trainer.iter:,} of {trainer.max_iter:,}, each of {batch:,} images"),
        ("duration", f"{rounded(seconds)}, {rounded(outside)} of it between the steps: evaluations, checkpoints, logs"),
    ]
    recorded = HostStorage.latest(trainer.storage)  # does not wait for a GPU, which may be in an error state
    if "time" in recorded:
        speed = batch / HostStorage.history(trainer.storage, "time").global_avg()
        rows.append(("speed", f"{speed:.1f} images/s in the steps"))
    skipped = getattr(images, "skipped", None)  # only with DATALOADER.ON_ERROR skip
    if skipped is not None and skipped.any():
        rows.append(("skipped", f"{skipped.sum()} of {len(images):,} images could not be read by this process"))
    if best := best_of(cfg.OUTPUT_DIR):
        metric = f"{name_of_metric(cfg, recorded)} on {cfg.DATASETS.TESTS[0]}"
        rows.append(("best", f"{best['metric']:.1f}, {metric}, after epoch {best['epoch'] + 1}"))
    return rows


def name_of_metric(cfg, recorded: dict[str, tuple[float, int]]) -> str:
    """Returns what the metric is by which the best checkpoint is chosen: "metric" for the evaluator of a project.

    Args:
        cfg: config of the run.
        recorded: (value, iteration) of each scalar of the run; without an evaluation the metric is not known either.
    """
    prefix = f"{cfg.DATASETS.TESTS[0]}/" if len(cfg.DATASETS.TESTS) > 1 else ""
    names = (f"{prefix}{name}" for name in ("metric", "Rank-1", "mAP"))
    metric, rank_1, mean_ap = (recorded.get(name, (math.nan, 0))[0] for name in names)
    return "the mean of Rank-1 and mAP" if math.isclose(metric, (rank_1 + mean_ap) / 2, rel_tol=1e-6) else "metric"


def rounded(seconds: float) -> timedelta:
    """Returns a duration in whole seconds."""
    return timedelta(seconds=round(seconds))
