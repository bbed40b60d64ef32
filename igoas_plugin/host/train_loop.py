import logging

from fastreid.engine.hooks import EvalHook
from fastreid.engine.train_loop import TrainerBase
from fastreid.utils import events

from .fix import fix

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
                    self.run_step()
                    self.after_step()
                    self.iter += 1
                self.after_epoch()
        except Exception:
            logger.exception("Exception during training:")
            raise
        finally:
            self.after_train()


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
