import functools
import time

from fastreid.engine.hooks import PeriodicWriter
from fastreid.engine.train_loop import HookBase
from fastreid.utils.events import CommonMetricPrinter, get_event_storage

from .fix import fix
from .hooks import extend_hooks

FASTEST, SLOWEST = 4.0, 60.0  # seconds between two lines on the console; in between, a sixtieth of the time so far


def after_step(self):
    """Files every `period` iterations as the host, the console by time; an epoch's last step is left to after_epoch."""
    now = time.monotonic()
    if not hasattr(self, "_started"):
        self._started = self._last_line = now
    done = self.trainer.iter + 1
    length = getattr(self.trainer, "iters_per_epoch", None)  # a bare SimpleTrainer has none
    if length and done % length == 0:
        return
    if done % self._period == 0:
        for writer in self._writers:
            writer.write()
        self._last_line = now
    elif now - self._last_line >= min(max((now - self._started) / 60, FASTEST), SLOWEST):
        for writer in self._writers:
            if isinstance(writer, CommonMetricPrinter):
                writer.write()
        self._last_line = now


@fix
def show_progress_by_time() -> None:
    """A run on a CPU is silent for many minutes: the host prints every 200 iterations.

    Metrics of an evaluation were also lost where a multiple of 200 was an epoch's last iteration: the writers saw that
    iteration as written already.
    """
    PeriodicWriter.after_step = after_step


@fix
def print_the_occlusion_too() -> None:
    """The console shows only scalars whose name contains "loss": not what the occlusion block does."""
    write = CommonMetricPrinter.write

    @functools.wraps(write)
    def write_all(self):
        write(self)
        drawn = {
            name.split("/")[1]: value
            for name, (value, _) in get_event_storage().latest().items()
            if name.startswith("occlusion/")
        }
        if drawn:
            self.logger.info(" occlusion  " + "  ".join(f"{name}: {value:.4g}" for name, value in drawn.items()))

    CommonMetricPrinter.write = write_all


class PublishRunLength(HookBase):
    """Tells the event storage how many iterations an epoch has, for schedules that go by iterations."""

    def before_train(self):
        self.trainer.storage.iters_per_epoch = self.trainer.iters_per_epoch


@fix
def publish_length_of_an_epoch() -> None:
    """A model cannot know how far the run is: the event storage holds iteration and epoch, but not their ratio."""
    extend_hooks(lambda trainer, hooks: [PublishRunLength(), *hooks])
