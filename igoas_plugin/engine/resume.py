"""Resume of a run: order, augmentation and every generator depend on SEED, rank and iteration alone.

A run that is killed and resumed ends with the weights, bit by bit, of one that is not: see also repeatable_data.py.
The samplers and generators of fast-reid begin anew.
"""

import logging

from fastreid.engine.defaults import DefaultTrainer
from fastreid.utils import comm

from .checkpoints import leave_to_earlier_run, newest_first
from .metrics_file import forget_from
from .repeatable_data import NumberedSampler

logger = logging.getLogger("fastreid.igoas_plugin")


def resume_or_load(trainer: DefaultTrainer, resume: bool) -> None:
    """Loads MODEL.WEIGHTS, or lets a run go on with the iteration after the last one of its newest whole checkpoint.

    The checkpoints of an earlier run in OUTPUT_DIR are not those of one that starts anew. metrics.json forgets the
    iterations that are trained again.

    Args:
        trainer: gets start_epoch, resumed_iter and evaluation_is_due.
        resume: whether to go on; with an empty OUTPUT_DIR a warning says that the training starts at epoch 0.

    Raises:
        InputError: see checkpoints.resume_or_load().
    """
    if resume and not newest_first(trainer.checkpointer):
        folder = trainer.cfg.OUTPUT_DIR
        logger.warning(f"Nothing to resume: {folder} has no last_checkpoint; training starts at epoch 0")
        resume = False
    checkpoint = trainer.checkpointer.resume_or_load(trainer.cfg.MODEL.WEIGHTS, resume=resume)
    if not resume:
        comm.synchronize()  # all have read what is read
        if comm.is_main_process() and (names := leave_to_earlier_run(trainer.cfg.OUTPUT_DIR)):
            logger.warning(
                f"{trainer.cfg.OUTPUT_DIR} has checkpoints of an earlier training ({', '.join(sorted(names)[:5])}"
                f"{', ...' if len(names) > 5 else ''}): this one replaces them as it writes its own, and never resumes "
                "them; --resume goes on with a training"
            )
        return
    trainer.start_epoch = checkpoint.get("epoch", -1) + 1
    trainer.evaluation_is_due = not checkpoint.get("evaluated", True)
    trainer.resumed_iter = trainer.start_epoch * trainer.iters_per_epoch
    if checkpoint.get("iters_per_epoch") == trainer.iters_per_epoch:
        trainer.resumed_iter = checkpoint["iteration"]
    elif "iteration" in checkpoint and not trainer.evaluation_is_due:
        logger.warning(
            f"An epoch has {trainer.iters_per_epoch} iterations now and had {checkpoint['iters_per_epoch']}: epoch "
            f"{trainer.start_epoch + 1} begins anew, with the weights of its iteration {checkpoint['iteration']}"
        )
    sampler = getattr(getattr(trainer.data_loader, "batch_sampler", None), "sampler", None)
    if isinstance(sampler, NumberedSampler):
        sampler.first = trainer.resumed_iter * trainer.cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    if comm.is_main_process():
        forget_from(trainer.cfg.OUTPUT_DIR, trainer.resumed_iter)
