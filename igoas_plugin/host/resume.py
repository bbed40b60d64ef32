import functools
import logging

from fastreid.engine.defaults import DefaultTrainer
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm

from igoas_plugin.randomness import seed_generators
from igoas_plugin.training_log import forget_from

from .earlier_run import leave_to_earlier_run
from .fix import fix
from .hooks import extend_hooks
from .kept_checkpoints import newest_first
from .repeatable_data import NumberedSampler

logger = logging.getLogger("fastreid.igoas_plugin")


def resume_or_load(self, resume=True):
    """DefaultTrainer.resume_or_load; a resumed run begins with the iteration after the last one of its checkpoint.

    The checkpoints of an earlier run in OUTPUT_DIR are not those of one that starts anew.
    """
    if resume and not newest_first(self.checkpointer):
        logger.warning(f"Nothing to resume: {self.cfg.OUTPUT_DIR} has no last_checkpoint; training starts at epoch 0")
        resume = False
    checkpoint = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
    if not resume:
        comm.synchronize()  # all have read what is read
        if comm.is_main_process() and (names := leave_to_earlier_run(self.cfg.OUTPUT_DIR)):
            logger.warning(
                f"{self.cfg.OUTPUT_DIR} has checkpoints of an earlier training ({', '.join(sorted(names)[:5])}"
                f"{', ...' if len(names) > 5 else ''}): this one replaces them as it writes its own, and never resumes "
                "them; --resume goes on with a training"
            )
        return
    self.start_epoch = checkpoint.get("epoch", -1) + 1
    self.evaluation_is_due = not checkpoint.get("evaluated", True)
    self.resumed_iter = self.start_epoch * self.iters_per_epoch
    if checkpoint.get("iters_per_epoch") == self.iters_per_epoch:
        self.resumed_iter = checkpoint["iteration"]
    elif "iteration" in checkpoint and not getattr(self, "evaluation_is_due", False):
        logger.warning(
            f"An epoch has {self.iters_per_epoch} iterations now and had {checkpoint['iters_per_epoch']}: epoch "
            f"{self.start_epoch + 1} begins anew, with the weights of its iteration {checkpoint['iteration']}"
        )
    sampler = getattr(getattr(self.data_loader, "batch_sampler", None), "sampler", None)
    if isinstance(sampler, NumberedSampler):
        sampler.first = self.resumed_iter * self.cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    if comm.is_main_process():
        forget_from(self.cfg.OUTPUT_DIR, self.resumed_iter)


@fix
def go_on_where_a_run_was_left() -> None:
    """A resumed run is another run: it sees the batches of its first epochs again, and augments them in other ways.

    The host's samplers and generators begin anew. Here order, augmentation and every global generator depend on SEED,
    rank and iteration alone, so that a run which is killed and resumed ends with the weights, bit by bit, of one that
    is not. metrics.json forgets the iterations that are trained again. And --resume with an empty OUTPUT_DIR no longer
    starts from the beginning without a word.
    """
    DefaultTrainer.resume_or_load = resume_or_load


class SeedSteps(HookBase):
    """Seeds the global generators in each step: what a model draws, by dropout say, depends on seed and iteration."""

    def __init__(self, seed: int):
        self.seed = seed

    def before_step(self):
        seed_generators(self.seed, comm.get_rank(), self.trainer.iter)


@fix
def draw_by_iteration() -> None:
    """What a model draws from the global generators differs after a resume, as they are not part of a checkpoint."""

    def add(trainer, hooks):
        seed = trainer.cfg.get("SEED", -1)
        return [SeedSteps(seed), *hooks] if seed >= 0 else hooks

    extend_hooks(add)


@fix
def evaluate_finished_runs() -> None:
    """AttributeError: 'DefaultTrainer' object has no attribute 'epoch', when a finished run is resumed.

    It has no epoch left to train: it says so, and evaluates.
    """
    train = DefaultTrainer.train

    @functools.wraps(train)
    def train_what_is_left(self):
        if 0 < self.max_epoch <= self.start_epoch and not self.evaluation_is_due:
            logger.info(f"All {self.max_epoch} epochs of {self.cfg.OUTPUT_DIR} are done; nothing is trained.")
            return self.test(self.cfg, self.model)
        return train(self)

    DefaultTrainer.train = train_what_is_left
