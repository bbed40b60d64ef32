"""Console of a training: progress line, live line on a terminal, colours."""

import functools
import logging
import re
import shutil
import sys
import time
from datetime import timedelta

import torch
from fastreid.engine.hooks import PeriodicWriter
from fastreid.engine.train_loop import HookBase
from fastreid.utils.events import CommonMetricPrinter, get_event_storage
from fastreid.utils.logger import setup_logger as setup_logger_on_host
from tqdm import tqdm

from igoas_plugin.core.run_progress import run_progress
from igoas_plugin.fastreid_fixes.async_metrics import HostStorage
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

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
    """Tells the event storage how many iterations an epoch has, and images a step, in all processes.

    Without it a model cannot know how far the run is: the storage holds iteration and epoch, but not their ratio.
    """

    def before_train(self):
        storage = self.trainer.storage
        storage.iters_per_epoch = self.trainer.iters_per_epoch
        storage.images_per_step = self.trainer.cfg.SOLVER.IMS_PER_BATCH


WINDOW = 20  # steps that a number is smoothed over, as in metrics.json
LOSS = re.compile(r"(?!total_|raw_|loss_weight_).*loss")  # of those that are summed; IGOAS records others too


def progress_line(max_iter: int, seconds_left: float | None) -> str:
    """Epoch, iteration, total loss, covered share, images/s, time left; then what a narrow terminal cuts off.

    That is the learning rate, the part of a step that waits for images, the GPU memory, and each loss as it is summed.
    What the open event storage does not know is left out. Nobody waits for a GPU: losses that are still on their way
    come with a later line.

    Args:
        max_iter: iterations of the whole run.
        seconds_left: as estimated; None: not known yet.
    """
    storage, at = get_event_storage(), run_progress()
    scalars = {name: value for name, (value, _) in HostStorage.latest_with_smoothing_hint(storage, WINDOW).items()}
    step, wait = (
        HostStorage.history(storage, name).avg(WINDOW) if name in scalars else None for name in ("time", "data_time")
    )
    images = getattr(storage, "images_per_step", None)  # a bare storage does not know
    parts = [
        part("epoch {}/{}", at.epoch + 1, at.iters_per_epoch and max_iter // at.iters_per_epoch),
        part("iter {}/{}", at.iteration + 1, max_iter),
        part("loss {:.4g}", scalars.get("total_loss")),
        part("covered {:.0%}", scalars.get("occlusion/share")),
        part("{:.1f} images/s", ratio(images, step)),
        part("left {}", seconds_left if seconds_left is None else timedelta(seconds=round(seconds_left))),
        part("lr {:.2e}", scalars.get("lr")),
        part("data wait {:.0%}", ratio(wait, step)),
        part("{:.1f} GiB", torch.cuda.max_memory_allocated() / 2**30 or None),
        *(part(name.removeprefix("loss_") + " {:.4g}", scalars[name]) for name in scalars if LOSS.match(name)),
    ]
    return "  ".join(filter(None, parts))


def part(template: str, *values) -> str | None:
    return None if None in values else template.format(*values)


def ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


FOR_FILES = {"for_files": True}  # `extra` of a log record that the live line stands for on a terminal


class LiveLine(logging.Filter):
    """Shares the terminal with a handler of the host's logger: it goes away before each record of that is written.

    Args:
        handler: writes to a terminal.
    """

    def __init__(self, handler: logging.StreamHandler):
        super().__init__()
        self.handler = handler
        # for some terminals say that they have no columns and rows, and tqdm then draws nothing; show() makes it fit
        self.line = tqdm(bar_format="{desc}", file=handler.stream, leave=False, ncols=1000, nrows=20)
        handler.addFilter(self)

    def show(self, text: str) -> None:
        columns = shutil.get_terminal_size().columns
        self.line.set_description_str(text[: columns - 1])  # a longer one would begin a new line each time

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "for_files", False):
            return False
        self.line.clear()
        return True

    def close(self) -> None:
        self.handler.removeFilter(self)
        self.line.close()


def live_line() -> LiveLine | None:
    """A new one; None where what the host logs does not go to a terminal."""
    for handler in logging.getLogger("fastreid").handlers:
        if getattr(handler, "stream", None) is sys.stdout and sys.stdout.isatty():
            return LiveLine(handler)
    return None


COLOUR = re.compile(r"\x1b\[[\d;]*m")


class WithoutColours(logging.Formatter):
    """Writes what another formatter makes of a record, without the codes of colours.

    Args:
        formatter: of the host.
    """

    def __init__(self, formatter: logging.Formatter):
        super().__init__()
        self.formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return COLOUR.sub("", self.formatter.format(record))


@functools.lru_cache  # as the host's
def setup_logger(*args, name="fastreid", **kwargs) -> logging.Logger:
    """The host's; only a terminal gets colours."""
    before = list(logging.getLogger(name).handlers)
    logger = setup_logger_on_host.__wrapped__(*args, name=name, **kwargs)
    for handler in logger.handlers:
        if handler not in before and not (handler.stream is sys.stdout and sys.stdout.isatty()):
            handler.setFormatter(WithoutColours(handler.formatter))
    return logger


@fix
def keep_colours_to_the_terminal() -> None:
    """On a terminal, log.txt gets the codes of its colours: the host colours tables before it logs them.

    The same in the log of every other process; and where FORCE_COLOR is set, in a file that the console goes to.
    """
    replace_everywhere(setup_logger_on_host, setup_logger)
