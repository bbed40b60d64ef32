"""Resume of a run: order, augmentation and random numbers depend on SEED, rank and iteration alone.

A run that is killed and resumed ends with exactly the weights of a run that is not: see also repeatable_data.py.
fast-reid's own samplers and generators start again from the beginning.
"""

import logging

from fastreid.engine.defaults import DefaultTrainer
from fastreid.utils import comm

from .checkpoints import newest_first
from .metrics_file import remove_from
from .repeatable_data import NumberedSampler

logger = logging.getLogger("fastreid.igoas_plugin")


def resume_or_load(trainer: DefaultTrainer, resume: bool) -> None:
    """Loads MODEL.WEIGHTS, or prepares a run to continue after the last iteration of its newest whole checkpoint.

    A resume also removes the iterations that will be trained again from metrics.json.

    Args:
        trainer: gets start_epoch, resumed_iter and evaluation_is_due.
        resume: whether to resume; a warning is logged if OUTPUT_DIR has no checkpoint.

    Raises:
        InputError: as checkpoints.resume_or_load().
    """
    if resume and not newest_first(trainer.checkpointer):
        folder = trainer.cfg.OUTPUT_DIR
        logger.warning(f"Nothing to resume: {folder} has no last_checkpoint; training starts at epoch 0")
        resume = False
    checkpoint = trainer.checkpointer.resume_or_load(trainer.cfg.MODEL.WEIGHTS, resume=resume)
    if not resume:
        return
    trainer.start_epoch = checkpoint.get("epoch", -1) + 1
    trainer.evaluation_is_due = not checkpoint.get("evaluated", True)
    trainer.resumed_iter = trainer.start_epoch * trainer.iters_per_epoch
    if checkpoint.get("iters_per_epoch") == trainer.iters_per_epoch:
        trainer.resumed_iter = checkpoint["iteration"]
    elif "iteration" in checkpoint and not trainer.evaluation_is_due:
        logger.warning(
            f"An epoch has {trainer.iters_per_epoch} iterations now and had {checkpoint['iters_per_epoch']}: epoch "
            f"{trainer.start_epoch + 1} starts again, with the weights of its iteration {checkpoint['iteration']}"
        )
    sampler = getattr(getattr(trainer.data_loader, "batch_sampler", None), "sampler", None)
    if isinstance(sampler, NumberedSampler):
        sampler.first = trainer.resumed_iter * trainer.cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    if comm.is_main_process():
        remove_from(trainer.cfg.OUTPUT_DIR, trainer.resumed_iter)
