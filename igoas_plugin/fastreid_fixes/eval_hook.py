"""Hook that evaluates after every period and after the last epoch."""

from fastreid.engine.hooks import EvalHook

from .fix import fix


def after_epoch(self):
    """Evaluates after each period and after the last epoch, before the checkpoint and the line in the log."""
    done = self.trainer.epoch + 1
    if done >= self.trainer.max_epoch or (self._period > 0 and done % self._period == 0):
        self._do_eval()


def after_train(self):
    del self._func  # likely a closure that holds the trainer


@fix
def evaluate_last_epoch_in_time() -> None:
    """TEST.EVAL_PERIOD 0 raises a ZeroDivisionError; a period that does not divide MAX_EPOCH evaluates too late.

    Cause: fast-reid divides by the period, and evaluates the last epoch after the last checkpoint and the last line of
    the logs. model_final.pth then holds an old metric, model_best.pth may be the wrong model, and metrics.json lacks
    the last metrics. EVAL_PERIOD 0 now means an evaluation after the last epoch only.
    """
    EvalHook.after_epoch = after_epoch
    EvalHook.after_train = after_train
