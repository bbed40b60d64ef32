"""Files that a training writes: log.txt, metrics.json, tensorboard events, config.yaml."""

import contextlib
import functools
import io
import logging
import re
import tempfile
from collections.abc import Callable, Iterator

import fastreid.engine.defaults
import fastreid.utils.logger
from fastreid.utils.events import EventWriter, JSONWriter, TensorboardXWriter, get_event_storage
from fastreid.utils.file_io import PathManager

from igoas_plugin.core.files import cannot_write, write_atomically
from igoas_plugin.fastreid_fixes.fix import fix

logger = logging.getLogger("fastreid.igoas_plugin")

UNWRITABLE: set[str] = set()  # paths of logs that cannot be written at present
COLOUR = re.compile(r"\x1b\[[\d;]*m")
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


host_write_tensorboard, host_close_tensorboard = TensorboardXWriter.write, TensorboardXWriter.close


def go_on(method: Callable, path_of: Callable[[EventWriter], str]) -> Callable:
    """Returns a method of a writer, with a warning in place of an OSError."""

    @functools.wraps(method)
    def wrapped(self) -> None:
        with warn_if_unwritable(path_of(self)):
            method(self)

    return wrapped


def write_tensorboard(self) -> None:
    """Replaces TensorboardXWriter.write: writes only if there is space, because its thread would die without it."""
    folder = self._writer.log_dir
    try:
        with warn_if_unwritable(folder):
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(FREE_BYTES))
            if folder in UNWRITABLE:  # a new file, because tensorboard does not read on after a torn record
                with contextlib.suppress(OSError):
                    host_close_tensorboard(self)
                self._writer = type(self._writer)(folder)
            host_write_tensorboard(self)
            self._writer.flush()
    finally:  # as fast-reid does after it has written them
        get_event_storage().clear_images()
        get_event_storage().clear_histograms()


@fix
def go_on_where_a_log_cannot_be_written() -> None:
    """A full disk ends a training at the next line of metrics.json, or fills the console with tracebacks of log.txt.

    A log that cannot be written now gives one warning, and the training goes on: its checkpoints matter more, and may
    find space later or on another disk. A checkpoint that cannot be written ends the training. log.txt also contained
    colour codes, because fast-reid colours tables before it logs them.
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
