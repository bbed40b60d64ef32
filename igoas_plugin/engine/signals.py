"""Signals: a training that receives one finishes its step, writes a checkpoint and ends."""

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

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # from a scheduler, and Ctrl-C
# Signals this close together count as one: a launcher forwards a signal that the process has already received
ONE_REQUEST_SECONDS = 1.0


class Interrupted(SystemExit):
    """Exit of a training after a signal and its checkpoint; the exit code is 128 + the signal's number."""


class StopOnSignal(HookBase):
    """Hook that ends a training on SIGTERM or Ctrl-C: the step is finished, a checkpoint is written, the process exits.

    Between two steps all processes agree, so a signal to one process ends all of them. An evaluation is left at once,
    and a resumed run repeats it. A second signal ends the process as if the hook did not exist.
    """

    def __init__(self):
        self.signal: int | None = None
        self.at_once = False
        self._process = os.getpid()
        self._since = 0.0
        self._previous_handlers = {}

    def before_train(self):
        # a launcher lets its processes ignore Ctrl-C
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        try:
            self._previous_handlers = {number: signal.signal(number, self.on_signal) for number in handled}
        except ValueError:
            logger.warning("Not in the main thread: a signal ends this training without a checkpoint")

    def after_train(self):
        while self._previous_handlers:
            signal.signal(*self._previous_handlers.popitem())

    def on_signal(self, number: int, frame) -> None:
        """Notes a signal; leaves an evaluation at once."""
        if os.getpid() != self._process:  # a loader's worker, which was forked with this handler
            return
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
            # a scheduler may signal the loader's workers too, and torch raises an error when they end
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if self.at_once:
                self.stop(self.trainer.iter, evaluated=False, alone=True)
            return
        if time.monotonic() - self._since < ONE_REQUEST_SECONDS:
            return
        self.after_train()
        signal.raise_signal(number)

    def after_step(self):
        done = self.trainer.iter + 1
        # the last step of an epoch is followed by the steps of the schedules: after_epoch() comes after them
        if done % self.trainer.iters_per_epoch and self.agreed():
            self.stop(done)

    def after_epoch(self):
        if self.agreed():
            self.stop(self.trainer.iter, evaluated=False)

    def agreed(self) -> bool:
        """Returns whether any process has received a signal."""
        if comm.get_world_size() == 1:
            return self.signal is not None
        number = torch.tensor(self.signal or 0)
        dist.all_reduce(number, dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
        if number:  # a signal that came after the tensor was built waits for the next step
            self.signal = int(number)
        return bool(number)

    def stop(self, iteration: int, evaluated: bool = True, alone: bool = False) -> None:
        """Writes the checkpoint and raises Interrupted.

        Args:
            iteration: iteration with which a resumed run continues.
            evaluated: False if the epoch's evaluation, and what follows it, is still due.
            alone: whether this process stops without the agreement of the others.
        """
        self.at_once = False  # no further signal interrupts the writing of the checkpoint
        trainer, length = self.trainer, self.trainer.iters_per_epoch
        trainer.checkpointer.save(
            INTERRUPTED, epoch=iteration // length - 1, iteration=iteration, iters_per_epoch=length, evaluated=evaluated
        )
        if not alone:
            comm.synchronize()  # waits for the main process, which writes the checkpoint
        trainer.iter = iteration  # the loop has not counted the last step yet, and the summary tells this number
        logger.warning(
            f"{signal.Signals(self.signal).name}: stopped after iteration {iteration:,} of {trainer.max_iter:,}; "
            f"--resume goes on from {os.path.join(trainer.cfg.OUTPUT_DIR, INTERRUPTED)}.pth"
        )
        raise Interrupted(128 + self.signal)


class InterruptibleEval(EvalHook):
    """Evaluation hook of fast-reid that a signal leaves at once.

    A scheduler waits half a minute before it kills a process, and an evaluation takes longer.
    """

    def _do_eval(self):
        stop_on_signal = self.trainer.stop_on_signal
        if stop_on_signal is None:
            return super()._do_eval()
        stop_on_signal.at_once = True
        try:
            super()._do_eval()
        finally:
            stop_on_signal.at_once = False
