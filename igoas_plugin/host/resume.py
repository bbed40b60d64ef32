import functools
import logging

from fastreid.engine.defaults import DefaultTrainer
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng

from .fix import fix

logger = logging.getLogger("fastreid.igoas_plugin")


STRIDE = 100_003  # between the seeds of two epochs: more than there are ranks


@fix
def evaluate_finished_runs() -> None:
    """AttributeError: 'DefaultTrainer' object has no attribute 'epoch', when a finished run is resumed.

    It has no epoch left to train: it says so, and evaluates.
    """
    train = DefaultTrainer.train

    @functools.wraps(train)
    def train_what_is_left(self):
        if 0 < self.max_epoch <= self.start_epoch:
            logger.info(f"All {self.max_epoch} epochs of {self.cfg.OUTPUT_DIR} are done; nothing is trained.")
            return self.test(self.cfg, self.model)
        return train(self)

    DefaultTrainer.train = train_what_is_left


@fix
def say_that_there_is_nothing_to_resume() -> None:
    """--resume with an empty OUTPUT_DIR starts from the beginning without a word."""
    resume_or_load = DefaultTrainer.resume_or_load

    @functools.wraps(resume_or_load)
    def resume_or_tell(self, resume=True):
        if resume and not self.checkpointer.has_checkpoint():
            logger.warning(
                f"Nothing to resume: {self.cfg.OUTPUT_DIR} has no last_checkpoint; training starts at epoch 0"
            )
        return resume_or_load(self, resume)

    DefaultTrainer.resume_or_load = resume_or_tell


@fix
def draw_other_batches_after_a_resume() -> None:
    """With a seed that is kept, a resumed run sees the batches of its first epochs again.

    The host's samplers know a seed but no epoch. Sampler and generators move on with the epoch that the run resumes at,
    before the loader draws from them.
    """
    resume_or_load = DefaultTrainer.resume_or_load

    @functools.wraps(resume_or_load)
    def resume_and_move_on(self, resume=True):
        resume_or_load(self, resume)
        if self.start_epoch > 0 and "SEED" in self.cfg:
            sampler = getattr(getattr(self._trainer.data_loader, "batch_sampler", None), "sampler", None)
            if hasattr(sampler, "_seed"):  # a sampler of the host
                sampler._seed = (sampler._seed + self.start_epoch) % 2**32
            seed_all_rng((self.cfg.SEED + comm.get_rank() + STRIDE * self.start_epoch) % 2**32)

    DefaultTrainer.resume_or_load = resume_and_move_on
