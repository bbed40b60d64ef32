"""Console output of a training: progress line, live line on a terminal."""

import logging
import re
import shutil
import sys
import time
from datetime import timedelta

import torch
from fastreid.engine.hooks import PeriodicWriter
from fastreid.utils.events import CommonMetricPrinter, get_event_storage
from tqdm import tqdm

from igoas_plugin.core.run_progress import run_progress
from igoas_plugin.fastreid_fixes.async_metrics import HostStorage
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

# Bounds of the seconds between two lines on the console; between the bounds it is a sixtieth of the time so far
FASTEST, SLOWEST = 4.0, 60.0
LIVE_SECONDS = 1.0  # time between two updates of the live line


def after_step(self):
    """Replaces PeriodicWriter.after_step: writes files every `period` iterations, and the console by time.

    The last step of an epoch is left to after_epoch().
    """
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
    """A run on a CPU is silent for many minutes: fast-reid prints every 200 iterations.

    Metrics of an evaluation were also lost if a multiple of 200 was an epoch's last iteration: the writers had already
    written that iteration.
    """
    PeriodicWriter.after_step = after_step


class ProgressPrinter(CommonMetricPrinter):
    """Printer that replaces fast-reid's and writes one readable line.

    On a terminal the line is live: it is updated about every second, and stays at the end of an epoch. Files, and a
    console that is no terminal, get each line that is written.
    """

    def __init__(self, max_iter: int):
        super().__init__(max_iter)
        self._first = None  # (time, iteration) at the end of the first step, whose own time is not typical
        self._live, self._shown = None, -LIVE_SECONDS

    def after_step(self) -> None:
        """Updates the live line."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, get_event_storage().iter
            self._live = live_line()
        if self._live is not None and now - self._shown >= LIVE_SECONDS:
            self._live.show(progress_line(self._max_iter, self._seconds_left()))
            self._shown = now

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:  # after the last step
            return
        storage.latest()  # waits for scalars that are being copied from a GPU
        left = self._seconds_left()
        if left is not None:
            storage.put_scalar("eta_seconds", left, smoothing_hint=False)
        length = getattr(storage, "iters_per_epoch", None)
        stays = self._live is None or (length and (storage.iter + 1) % length == 0)
        self.logger.info(progress_line(self._max_iter, left), extra=None if stays else FILES_ONLY)

    def close(self) -> None:
        if self._live is not None:
            self._live.close()

    def _seconds_left(self) -> float | None:
        """Returns the remaining time at the rate so far, evaluations included; None before two steps are done."""
        if self._first is None or (done := get_event_storage().iter - self._first[1]) == 0:
            return None
        return (time.monotonic() - self._first[0]) / done * (self._max_iter - get_event_storage().iter - 1)


@fix
def tell_the_progress_in_one_line() -> None:
    """The console's line is unreadable, and has neither images/s nor the occluded share.

    It prints up to 17 numbers with "loss" in their names, counts epochs from 0, leaves evaluations out of the remaining
    time, and on a terminal nothing changes between two lines.
    """
    replace_everywhere(CommonMetricPrinter, ProgressPrinter)


WINDOW = 20  # steps over which a number is smoothed, as in metrics.json
LOSS = re.compile(r"(?!total_|raw_|loss_weight_).*loss")  # names of the losses in the sum; IGOAS records others too


def progress_line(max_iter: int, seconds_left: float | None) -> str:
    """Returns the progress line: epoch, iteration, total loss, occluded share, images/s and remaining time first.

    Learning rate, share of the time spent waiting for images, GPU memory and the single losses follow, which a narrow
    terminal cuts off. Values that the event storage does not have are left out. The function does not wait for a GPU:
    losses that are still being copied appear in a later line.

    Args:
        max_iter: iterations of the whole run.
        seconds_left: estimate of the remaining time; None if there is none yet.
    """
    storage, at = get_event_storage(), run_progress()
    scalars = {name: value for name, (value, _) in HostStorage.latest_with_smoothing_hint(storage, WINDOW).items()}
    step, wait = (
        HostStorage.history(storage, name).avg(WINDOW) if name in scalars else None for name in ("time", "data_time")
    )
    images = getattr(storage, "images_per_step", None)  # a bare storage has none
    parts = [
        part("epoch {}/{}", at.epoch + 1, at.iters_per_epoch and max_iter // at.iters_per_epoch),
        part("iter {}/{}", at.iteration + 1, max_iter),
        part("loss {:.4g}", scalars.get("total_loss")),
        part("covered {:.0%}", scalars.get("occlusion/share")),
        part("{:.1f} images/s", images / step if images and step else None),
        part("left {}", seconds_left if seconds_left is None else timedelta(seconds=round(seconds_left))),
        part("lr {:.2e}", scalars.get("lr")),
        part("data wait {:.0%}", wait / step if wait is not None and step else None),
        part("{:.1f} GiB", torch.cuda.max_memory_allocated() / 2**30 or None),
        *(part(name.removeprefix("loss_") + " {:.4g}", scalars[name]) for name in scalars if LOSS.match(name)),
    ]
    return "  ".join(filter(None, parts))


def part(template: str, *values) -> str | None:
    """Returns a template with its values, or None if a value is None."""
    return None if None in values else template.format(*values)


FILES_ONLY = {"files_only": True}  # `extra` of a log record that a terminal does not show


class LiveLine(logging.Filter):
    """Line at the bottom of a terminal; it disappears before the handler of fast-reid's logger writes a record."""

    def __init__(self, handler: logging.StreamHandler):
        super().__init__()
        self.handler = handler
        # some terminals report 0 columns and rows, and tqdm then draws nothing; show() cuts the line to fit
        self.line = tqdm(bar_format="{desc}", file=handler.stream, leave=False, ncols=1000, nrows=20)
        handler.addFilter(self)

    def show(self, text: str) -> None:
        """Replaces the text of the line."""
        columns = shutil.get_terminal_size().columns
        self.line.set_description_str(text[: columns - 1])  # a longer text would start a new line with each update

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "files_only", False):
            return False
        self.line.clear()
        return True

    def close(self) -> None:
        """Removes the line."""
        self.handler.removeFilter(self)
        self.line.close()


def live_line() -> LiveLine | None:
    """Returns a new live line, or None if fast-reid's log does not go to a terminal."""
    for handler in logging.getLogger("fastreid").handlers:
        if getattr(handler, "stream", None) is sys.stdout and sys.stdout.isatty():
            return LiveLine(handler)
    return None
