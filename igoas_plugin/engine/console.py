"""Console output of a run: progress line, live line on a terminal, data sets and metrics in a line each."""

import functools
import logging
import numbers
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

import fastreid.utils.logger
import torch
from fastreid.data.datasets.bases import ImageDataset
from fastreid.engine.hooks import PeriodicWriter
from fastreid.evaluation.testing import print_csv_format as host_print_csv_format
from fastreid.utils.events import CommonMetricPrinter, get_event_storage
from tqdm import tqdm

from igoas_plugin.core.console_log import FILES_ONLY, WIDTH, ConsoleFilter, ConsoleFormatter, on_console, row
from igoas_plugin.core.run_progress import run_progress
from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.fastreid_fixes.async_metrics import HostStorage
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

logger = logging.getLogger("fastreid.igoas_plugin")

# Bounds of the seconds between two lines of log.txt; between the bounds it is a sixtieth of the time so far
FASTEST, SLOWEST = 4.0, 60.0
LIVE_SECONDS = 1.0  # time between two updates of the live line
# A console that is no terminal gets a first line after so many seconds, one where an epoch ends, and one inside an
# epoch where both so many seconds and so many steps have passed, so that a slow machine has no more lines
FIRST_SECONDS, LINE_SECONDS, LINE_STEPS = 5.0, 300.0, 50


host_setup_logger = fastreid.utils.logger.setup_logger.__wrapped__


@functools.lru_cache  # as fast-reid's own: a second call adds no handlers
@functools.wraps(host_setup_logger)
def setup_logger(*args, **kwargs) -> logging.Logger:
    """Replaces fast-reid's function; the handler of the console gets a ConsoleFilter and a ConsoleFormatter."""
    log = host_setup_logger(*args, **kwargs)
    for handler in log.handlers:
        if getattr(handler, "stream", None) is sys.stdout and not handler.filters:
            handler.addFilter(ConsoleFilter())
            handler.setFormatter(ConsoleFormatter())
    return log


@fix
def keep_dumps_in_the_log_file() -> None:
    """A training begins with 500 lines of environment, configs and model, each up to 2,000 characters long.

    They are in log.txt alone now. The console has the lines of the plugin and of projects, warnings and errors.
    """
    replace_everywhere(fastreid.utils.logger.setup_logger, setup_logger)


def after_step(self):
    """Replaces PeriodicWriter.after_step: writes files every `period` iterations, and log.txt by time.

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

    On a terminal the line is live: it is updated about every second, and stays at the end of an epoch. A console that
    is no terminal gets a line at the end of an epoch, and further lines in a long one. log.txt gets each line.
    """

    def __init__(self, max_iter: int):
        super().__init__(max_iter)
        self._first = None  # (time, iteration) at the end of the first step, whose own time is not typical
        self._live, self._shown = None, -LIVE_SECONDS
        self._line = None  # (time, iteration) of the last line on a console that is no terminal; None before the first
        self._logged = None  # iteration of the last line in log.txt

    def after_step(self) -> None:
        """Updates the live line, or writes a line to the console if one is due."""
        now, storage = time.monotonic(), get_event_storage()
        if self._first is None:
            self._first = now, storage.iter
            self._live = live_line()
        length = getattr(storage, "iters_per_epoch", None)  # a bare storage has none
        if length and (storage.iter + 1) % length == 0:  # now, because an evaluation may follow
            self._log(console=True)
        elif self._live is None:
            if self._is_due(now):
                self._log(console=True)
        elif now - self._shown >= LIVE_SECONDS:
            self._live.show(progress_line(self._max_iter, self._seconds_left()))
            self._shown = now

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:  # after the last step
            return
        storage.latest()  # waits for scalars that are being copied from a GPU
        if (left := self._seconds_left()) is not None:
            storage.put_scalar("eta_seconds", left, smoothing_hint=False)
        if self._logged != storage.iter:
            self._log(console=False)

    def _is_due(self, now: float) -> bool:
        """Returns whether a console that is no terminal gets a line inside an epoch."""
        if self._line is None:
            return now - self._first[0] >= FIRST_SECONDS
        seconds, steps = now - self._line[0], get_event_storage().iter - self._line[1]
        return seconds >= LINE_SECONDS and steps >= LINE_STEPS

    def _log(self, console: bool) -> None:
        """Logs the progress line, whose first part the console shows too if it should."""
        storage = get_event_storage()
        if console:
            storage.latest()  # waits for a GPU, which happens once an epoch or every few minutes
            self._line = time.monotonic(), storage.iter
        left, self._logged = self._seconds_left(), storage.iter
        width = WIDTH if self._live is None else shutil.get_terminal_size().columns - 1
        extra = on_console(progress_line(self._max_iter, left, width)) if console else FILES_ONLY
        self.logger.info(progress_line(self._max_iter, left), extra=extra)

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


def progress_line(max_iter: int, seconds_left: float | None, width: int | None = None) -> str:
    """Returns the progress line: epoch, iteration, total loss, images/s, remaining time and occluded share first.

    Learning rate, share of the time spent waiting for images, GPU memory and the single losses follow. Values that the
    event storage does not have are left out. The function does not wait for a GPU: losses that are still being copied
    appear in a later line.

    Args:
        max_iter: iterations of the whole run.
        seconds_left: estimate of the remaining time; None if there is none yet.
        width: columns for the line without what follows the occluded share, as far as it fits; None for the whole line.
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
        part("{:.1f} images/s", images / step if images and step else None),
        part("left {}", seconds_left if seconds_left is None else timedelta(seconds=round(seconds_left))),
        part("covered {:.0%}", scalars.get("occlusion/share")),
    ]
    if width is not None:
        line = "  ".join(filter(None, parts))
        while len(line) > width and "  " in line:
            line = line.rpartition("  ")[0]
        return line[:width]
    parts += [
        part("lr {:.2e}", scalars.get("lr")),
        part("data wait {:.0%}", wait / step if wait is not None and step else None),
        part("{:.1f} GiB", torch.cuda.max_memory_allocated() / 2**30 or None),
        *(part(name.removeprefix("loss_") + " {:.4g}", scalars[name]) for name in scalars if LOSS.match(name)),
    ]
    return "  ".join(filter(None, parts))


def part(template: str, *values) -> str | None:
    """Returns a template with its values, or None if a value is None."""
    return None if None in values else template.format(*values)


class LiveLine(logging.Filter):
    """Line at the bottom of a terminal; it disappears before the handler of fast-reid's logger writes a record.

    It is the last filter of that handler, so that a record that is not shown leaves the line as it is.
    """

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


@functools.cache
def show_once(name: str, text: str) -> None:
    """Logs a row once a run: fast-reid builds a test set anew for every evaluation."""
    logger.info(row(name, text))


host_show_train, host_show_test = ImageDataset.show_train, ImageDataset.show_test


def counted(identities: int, cameras: int) -> str:
    """Returns the numbers of identities and cameras in words."""
    return f"of {identities:,} identities in {cameras:,} camera{'' if cameras == 1 else 's'}"


def show_train(self) -> None:
    """Replaces ImageDataset.show_train: also logs the counts as one row."""
    host_show_train(self)
    images = f"{len(self.train):,} images {counted(*self.parse_data(self.train))}"
    show_once("train set", f"{type(self).__name__}: {images}")


def show_test(self) -> None:
    """Replaces ImageDataset.show_test: also logs the counts as one row."""
    host_show_test(self)
    queries = f"{len(self.query):,} queries {counted(*self.parse_data(self.query))}"
    gallery = "gallery {:,} of {:,} in {:,}".format(len(self.gallery), *self.parse_data(self.gallery))
    show_once("test set", f"{type(self).__name__}: {queries}, {gallery}")


TABLE_FOLLOWS: ContextVar[bool] = ContextVar("table follows", default=False)


@contextmanager
def table_follows() -> Iterator[None]:
    """Context in which metrics of an evaluation are in log.txt alone, because a table of them is printed after it."""
    token = TABLE_FOLLOWS.set(True)
    try:
        yield
    finally:
        TABLE_FOLLOWS.reset(token)


def print_csv_format(results: dict) -> None:
    """Replaces fast-reid's function: also logs the metrics as one row.

    Args:
        results: {metric: value}, with the name of the data set under "dataset", which is removed.
    """
    name = results["dataset"]
    host_print_csv_format(results)
    # "metric" chooses the best checkpoint, and is the mean of two of the others
    names = [each for each in results if each != "metric"] or list(results)
    in_order = [each for each in METRICS if each in names] + [each for each in names if each not in METRICS]
    values = (f"{each} {results[each]:.1f}" for each in in_order if isinstance(results[each], numbers.Real))
    logger.info(row("evaluated", f"{name}: {', '.join(values)}"), extra=FILES_ONLY if TABLE_FOLLOWS.get() else None)


@fix
def tell_data_and_metrics_in_one_line() -> None:
    """Tables of a test set and of its metrics, titled "in csv format", fill the console with each evaluation.

    The tables are in log.txt. A data set that overrides show_train() or show_test() shows what it did.
    """
    ImageDataset.show_train, ImageDataset.show_test = show_train, show_test
    replace_everywhere(host_print_csv_format, print_csv_format)
