"""Files that a training writes: log.txt, metrics.json, tensorboard events, config.yaml."""

import contextlib
import functools
import io
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence

import fastreid.engine.defaults
import fastreid.utils.logger
from fastreid.engine.train_loop import HookBase
from fastreid.utils.events import EventWriter, JSONWriter, TensorboardXWriter, get_event_storage
from fastreid.utils.file_io import PathManager

from igoas_plugin.core.files import cannot_write, write_atomically
from igoas_plugin.fastreid_fixes.async_metrics import HostStorage
from igoas_plugin.fastreid_fixes.fix import fix

logger = logging.getLogger("fastreid.igoas_plugin")

UNWRITABLE: set[str] = set()  # paths of logs that cannot be written at present
COLOUR = re.compile(r"\x1b\[[\d;]*m")
TENSORBOARD_PERIOD = 20  # iterations
SYSTEM = ("time", "data_time", "eta_seconds", "max_mem")  # scalars about the machine rather than the model
METRIC = re.compile(r"Rank-\d+|mAP|mINP|metric|TPR@FPR=.+")  # of fast-reid's evaluator
FREE_BYTES = 2**18  # space that must be free before tensorboard events are written


@contextlib.contextmanager
def warn_if_unwritable(path: str) -> Iterator[None]:
    """Context that turns an OSError into one warning, which is not repeated until the file can be written again."""
    try:
        yield
    except OSError as error:
        if path not in UNWRITABLE:
            UNWRITABLE.add(path)  # before the warning, which goes to log.txt too
            logger.warning(f"{cannot_write(path, error)}. The training goes on without it")
    else:
        if path in UNWRITABLE:
            UNWRITABLE.remove(path)
            logger.warning(f"{path} is written again; lines in between may be lost")


class LogStream:
    """Stream of a logging handler that appends to a text file, without colours; goes on if it cannot be written.

    Raises:
        OutputError: the file cannot be opened.
    """

    def __init__(self, path: str):
        self.name = path
        try:
            self._file = open(path, "a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise cannot_write(path, error) from error

    def write(self, text: str) -> None:
        with warn_if_unwritable(self.name):
            self._file.write(COLOUR.sub("", text))  # fast-reid colours tables before it logs them
            self._file.flush()

    def flush(self) -> None:
        """Does nothing: write() flushes."""


host_close_tensorboard = TensorboardXWriter.close


def go_on(method: Callable, path_of: Callable[[EventWriter], str]) -> Callable:
    """Returns a method of a writer, with a warning in place of an OSError."""

    @functools.wraps(method)
    def wrapped(self) -> None:
        with warn_if_unwritable(path_of(self)):
            method(self)

    return wrapped


def tag_of(name: str, test_sets: Sequence[str] = ()) -> str:
    """Returns the tensorboard tag of a scalar in the event storage: its group, a slash and its name.

    Args:
        name: name of the scalar, as in metrics.json.
        test_sets: names of the test sets. The metrics of a single test set are logged without its name.
    """
    if name.split("/")[0] in test_sets:
        return f"test/{name}"
    if METRIC.fullmatch(name):
        return "/".join(("test", *test_sets[:1], name))
    if "/" in name:  # a group that the caller has chosen
        return name
    if name.startswith("loss_weight_"):
        return name.replace("loss_weight_", "loss_weight/", 1)
    if name in SYSTEM:
        return f"system/{name}"
    return f"loss/{name}" if "loss" in name else f"train/{name}"


def write_points(self) -> None:
    """Writes the scalars, images and histograms of the event storage; a scalar once for each of its iterations.

    Values that are still on their way from the GPU wait for the next call. Tensorboard leaves out the points of an
    earlier run in the same folder from the first iteration on, so that those trained again stand once.
    """
    storage = get_event_storage()
    if not hasattr(self, "_written"):
        self._written = {}
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # slow, and only needed here

        start = SessionLog(status=SessionLog.START)
        self._writer.file_writer.add_event(Event(session_log=start), getattr(storage, "first_iter", 0))
    test_sets = getattr(storage, "test_sets", ())
    for name, (value, iteration) in HostStorage.latest_with_smoothing_hint(storage, self._window_size).items():
        if iteration > self._written.get(name, -1):
            self._writer.add_scalar(tag_of(name, test_sets), value, iteration)
            self._written[name] = iteration
    for image in storage._vis_data:
        self._writer.add_image(*image)
    for histogram in storage._histograms:
        self._writer.add_histogram_raw(**histogram)


class WriteTensorboard(HookBase):
    """Hook that writes to tensorboard more often than fast-reid, which writes every 200 iterations.

    Args:
        writers: writers of the run; the hook calls those of tensorboard.
        period: number of iterations between two points, at least 1.
    """

    def __init__(self, writers: Sequence[EventWriter], period: int = TENSORBOARD_PERIOD):
        self.writers, self.period = [each for each in writers if isinstance(each, TensorboardXWriter)], period

    def after_step(self):
        if (self.trainer.iter + 1) % self.period == 0:
            for writer in self.writers:
                writer.write()


def write_tensorboard(self) -> None:
    """Replaces TensorboardXWriter.write: tags in groups; writes only if there is space, or its thread would die."""
    folder = self._writer.log_dir
    try:
        with warn_if_unwritable(folder):
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(FREE_BYTES))
            if folder in UNWRITABLE:  # a new file, because tensorboard does not read on after a torn record
                with contextlib.suppress(OSError):
                    host_close_tensorboard(self)
                self._writer = type(self._writer)(folder)
            write_points(self)
            self._writer.flush()
    finally:  # as fast-reid does after it has written them
        get_event_storage().clear_images()
        get_event_storage().clear_histograms()


@fix
def go_on_where_a_log_cannot_be_written() -> None:
    """A full disk ends a training at the next line of metrics.json, or fills the console with tracebacks of log.txt.

    A log that cannot be written now gives one warning, and the training goes on: its checkpoints matter more, and may
    find space later or on another disk. A checkpoint that cannot be written ends the training. log.txt also contained
    colour codes, because fast-reid colours tables before it logs them. Tags of tensorboard had no groups.
    """
    fastreid.utils.logger._cached_log_stream = functools.cache(LogStream)
    for name in ("write", "close"):
        setattr(JSONWriter, name, go_on(getattr(JSONWriter, name), lambda self: self._file_handle.name))
    TensorboardXWriter.write = write_tensorboard
    TensorboardXWriter.close = go_on(host_close_tensorboard, lambda self: self._writer.log_dir)


@contextlib.contextmanager
def written_atomically(path: str) -> Iterator[io.StringIO]:
    """Context whose text is written to a file atomically at its end, unless it raises."""
    text = io.StringIO()
    yield text
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


class AtomicPathManager(PathManager):
    """PathManager of fast-reid that writes text files atomically."""

    @staticmethod
    def open(path: str, mode: str = "r"):
        return written_atomically(path) if mode == "w" else PathManager.open(path, mode)


@fix
def write_the_config_atomically() -> None:
    """A kill at the start of a run, or a full disk, leaves a torn or empty config.yaml in place of the old one.

    default_setup() and auto_scale_hyperparams() write it in place, and a resume reads its seed from it.
    """
    fastreid.engine.defaults.PathManager = AtomicPathManager
