import functools
import logging

from fastreid.engine.defaults import DefaultTrainer

from igoas_plugin.errors import InputError

from .fix import fix

logger = logging.getLogger("fastreid.igoas_plugin")


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
        try:
            return resume_or_load(self, resume)
        except ValueError as error:
            if not resume or isinstance(error, InputError):
                raise
            raise InputError(
                f"{self.cfg.OUTPUT_DIR} cannot be resumed with other SOLVER or FREEZE settings than before: "
                f"{' '.join(str(error).split())}"
            ) from error

    DefaultTrainer.resume_or_load = resume_or_tell
