"""Signals: a training that gets one finishes its step, writes a checkpoint and ends."""

import contextlib
import logging
import os
import signal
import time

import torch
import torch.distributed as dist
from fastreid.engine.hooks import EvalHook
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm

from .checkpoints import INTERRUPTED

logger = logging.getLogger("fastreid.igoas_plugin")

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # of a scheduler, and Ctrl-C
ONE_REQUEST = 1.0  # seconds in which signals are taken for one: a launcher passes on what everybody has got as well


class Interrupted(SystemExit):
    """A signal has ended the training after its checkpoint was written; the exit code is 128 + its number."""


class Interruption(HookBase):
    """Ends a training on SIGTERM or Ctrl-C: the step is finished, a checkpoint is written, the process ends.

    Between two steps all processes agree, so that one that was told alone ends them all. An evaluation is left at once;
    a resumed run makes it up. The second signal ends the process as if there were no first.
    """

    def __init__(self):
        self.signal: int | None = None
        self.at_once = False
        self._process = os.getpid()
        self._since = 0.0
        self._before = {}

    def before_train(self):
        heard = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]  # it may be the launcher's
        try:
            self._before = {each: signal.signal(each, self.on_signal) for each in heard}
        except ValueError:
            logger.warning("Not in the main thread: a signal ends this training without a checkpoint")

    def after_train(self):
        while self._before:
            signal.signal(*self._before.popitem())

    def on_signal(self, number: int, frame) -> None:
        if os.getpid() != self._process:  # a worker of the loader, forked with this handler
            return
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
            # a scheduler may have told the loader's workers too, and torch raises wherever it hears of their end
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if self.at_once:
                self.stop(self.trainer.iter, evaluated=False, alone=True)
            return
        if time.monotonic() - self._since < ONE_REQUEST:
            return
        self.after_train()
        signal.raise_signal(number)

    def after_step(self):
        done = self.trainer.iter + 1
        if done % self.trainer.iters_per_epoch and self.agreed():  # else the schedules have to take their step
            self.stop(done)

    def after_epoch(self):
        if self.agreed():
            self.stop(self.trainer.iter, evaluated=False)

    def agreed(self) -> bool:
        """Whether some process got a signal."""
        if comm.get_world_size() == 1:
            return self.signal is not None
        number = torch.tensor(self.signal or 0)
        dist.all_reduce(number, dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
        if number:  # else one that came meanwhile is for the next step
            self.signal = int(number)
        return bool(number)

    def stop(self, iteration: int, evaluated: bool = True, alone: bool = False) -> None:
        """Writes the checkpoint and raises Interrupted.

        Args:
            iteration: the one that a resumed run begins with.
            evaluated: whether nothing but steps is to be done; else an epoch's evaluation, and what follows it, is due.
            alone: whether the other processes, if there are any, have not agreed to this.
        """
        self.at_once = False  # the checkpoint is written to its end
        trainer, length = self.trainer, self.trainer.iters_per_epoch
        trainer.checkpointer.save(
            INTERRUPTED, epoch=iteration // length - 1, iteration=iteration, iters_per_epoch=length, evaluated=evaluated
        )
        if not alone:
            comm.synchronize()  # the first process has written it
        logger.warning(
            f"{signal.Signals(self.signal).name}: stopped after iteration {iteration:,} of {trainer.max_iter:,}; "
            f"--resume goes on from {os.path.join(trainer.cfg.OUTPUT_DIR, INTERRUPTED)}.pth"
        )
        raise Interrupted(128 + self.signal)


class InterruptibleEval(EvalHook):
    """The evaluation of fast-reid; a signal leaves it at once.

    A scheduler waits half a minute, and an evaluation takes longer: nothing would be saved before its end.
    """

    def _do_eval(self):
        with interruptible(self.trainer.interruption):
            super()._do_eval()


@contextlib.contextmanager
def interruptible(interruption: Interruption | None):
    """A context that a signal leaves at once, because the weights do not change in it."""
    if interruption is None:
        yield
        return
    interruption.at_once = True
    try:
        yield
    finally:
        interruption.at_once = False
