import logging

from fastreid.engine.hooks import EvalHook
from fastreid.engine.train_loop import TrainerBase
from fastreid.utils import events

from igoas_plugin.errors import InputError, LostWorker

from .fix import fix
from .live_line import FOR_FILES

logger = logging.getLogger("fastreid.engine.train_loop")  # the host's: what is no news to it is filtered there


def train(self, start_epoch: int, max_epoch: int, iters_per_epoch: int):
    """TrainerBase.train; it can begin in the middle of an epoch, or with the evaluation of the epoch before."""
    self.iter = self.start_iter = getattr(self, "resumed_iter", start_epoch * iters_per_epoch)
    logger.info(f"Starting training at iteration {self.iter + 1:,} of {max_epoch * iters_per_epoch:,}")
    with events.EventStorage(self.start_iter) as self.storage:
        try:
            self.before_train()
            if getattr(self, "evaluation_is_due", False):
                finish_epoch(self, start_epoch - 1)
            for self.epoch in range(start_epoch, max_epoch):
                self.before_epoch()
                while self.iter < (self.epoch + 1) * iters_per_epoch:
                    self.before_step()
                    run_or_stop(self)
                    self.after_step()
                    self.iter += 1
                self.after_epoch()
        except InputError as error:  # what runs the trainer tells it in one line, and log.txt holds that too
            logger.error(f"The training ends: {error}", extra=FOR_FILES)
            raise
        except Exception:
            logger.exception("Exception during training:")
            raise
        finally:
            self.after_train()


def run_or_stop(trainer: TrainerBase) -> None:
    """A step; where a signal has ended the loader's workers as well, the step has no data and the run stops before it.

    The loader is asked before anything changes, and LostWorker comes from nowhere else once a signal is there.
    """
    try:
        trainer.run_step()
    except LostWorker:
        interruption = getattr(trainer, "interruption", None)
        if interruption is None or interruption.signal is None:
            raise
        interruption.stop(trainer.iter, alone=True)


def finish_epoch(trainer: TrainerBase, epoch: int) -> None:
    """What was left of an epoch whose steps and schedules are done: its evaluation, checkpoint and logs."""
    trainer.epoch = trainer.storage.epoch = epoch
    trainer.storage.iter = trainer.iter - 1
    hooks = trainer._hooks
    for hook in hooks[next(at for at, each in enumerate(hooks) if isinstance(each, EvalHook)) :]:
        hook.after_epoch()


@fix
def begin_at_any_iteration() -> None:
    """A run can begin with the first step of an epoch only: what was trained of an epoch is lost by an interruption."""
    TrainerBase.train = train
