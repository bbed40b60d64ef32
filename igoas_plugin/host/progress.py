import time

from fastreid.engine.hooks import PeriodicWriter
from fastreid.engine.train_loop import HookBase
from fastreid.utils.events import CommonMetricPrinter, get_event_storage

from .fix import fix, replace_everywhere
from .hooks import extend_hooks
from .live_line import FOR_FILES, live_line
from .progress_line import progress_line

FASTEST, SLOWEST = 4.0, 60.0  # seconds between two lines on the console; in between, a sixtieth of the time so far
LIVE = 1.0  # seconds between two states of the live line


def after_step(self):
    """Files every `period` iterations as the host, the console by time; an epoch's last step is left to after_epoch."""
    now = time.monotonic()
    if not hasattr(self, "_started"):
        self._started = self._last_line = now
    for writer in self._writers:
        if isinstance(writer, ProgressPrinter):
            writer.after_step()
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


class ProgressPrinter(CommonMetricPrinter):
    """The host's, with one line that is made for reading.

    On a terminal that line is live: it is brought up to date after a step, about every second, and stays where an epoch
    ends. Files, and a console that is none, get each written line.

    Args:
        max_iter: iterations of the whole run.
    """

    def __init__(self, max_iter: int):
        super().__init__(max_iter)
        self._first = None  # (time, iteration) at the end of the first step, whose time says nothing of the others
        self._live, self._shown = None, -LIVE

    def after_step(self) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now, get_event_storage().iter
            self._live = live_line()
        if self._live is not None and now - self._shown >= LIVE:
            self._live.show(progress_line(self._max_iter, self._seconds_left()))
            self._shown = now

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:  # after the last step
            return
        storage.latest()  # waits for what is on its way from a GPU
        left = self._seconds_left()
        if left is not None:
            storage.put_scalar("eta_seconds", left, smoothing_hint=False)
        length = getattr(storage, "iters_per_epoch", None)
        stays = self._live is None or (length and (storage.iter + 1) % length == 0)
        self.logger.info(progress_line(self._max_iter, left), extra=None if stays else FOR_FILES)

    def close(self) -> None:
        if self._live is not None:
            self._live.close()

    def _seconds_left(self) -> float | None:
        """At the rate so far, evaluations included; None before two steps are done."""
        if self._first is None or (done := get_event_storage().iter - self._first[1]) == 0:
            return None
        return (time.monotonic() - self._first[0]) / done * (self._max_iter - get_event_storage().iter - 1)


@fix
def tell_the_progress_in_one_line() -> None:
    """The console's line holds no images/s and nothing of the occlusion, and it cannot be read.

    It prints up to 17 numbers with "loss" in their names, counts epochs from 0, its time left is without evaluations,
    and on a terminal nothing moves between two lines.
    """
    replace_everywhere(CommonMetricPrinter, ProgressPrinter)


class PublishRun(HookBase):
    """Tells the event storage how many iterations an epoch has, and images a step, in all processes."""

    def before_train(self):
        storage = self.trainer.storage
        storage.iters_per_epoch = self.trainer.iters_per_epoch
        storage.images_per_step = self.trainer.cfg.SOLVER.IMS_PER_BATCH


@fix
def publish_length_of_an_epoch() -> None:
    """A model cannot know how far the run is: the event storage holds iteration and epoch, but not their ratio."""
    extend_hooks(lambda trainer, hooks: [PublishRun(), *hooks])
