"""Files of a run that a training writes: log.txt, metrics.json, tensorboard's, config.yaml."""

import contextlib
import functools
import io
import logging
import tempfile
from collections.abc import Callable, Iterator

import fastreid.engine.defaults
import fastreid.utils.logger
from fastreid.utils.events import JSONWriter, TensorboardXWriter, get_event_storage
from fastreid.utils.file_io import PathManager

from igoas_plugin.core.files import cannot_write, write_atomically
from igoas_plugin.fastreid_fixes.fix import fix

logger = logging.getLogger("fastreid.igoas_plugin")

STOPPED: set[str] = set()  # paths of what cannot be written at present
ROOM = 2**18  # bytes that there must be for what is written to tensorboard at once


@contextlib.contextmanager
def tolerated(path: str) -> Iterator[None]:
    """A context in which a file that cannot be written is told once, until it can be written again."""
    try:
        yield
    except OSError as error:
        if path not in STOPPED:
            STOPPED.add(path)  # first: the warning goes to log.txt too
            logger.warning(f"{cannot_write(path, error)}. The training goes on without it")
    else:
        if path in STOPPED:
            STOPPED.remove(path)
            logger.warning(f"{path} is written again; what came meanwhile may be lost")


class LogStream:
    """What a logging handler writes to: a text file that is appended to, as far as that can be done.

    Args:
        path: of the file.

    Raises:
        OutputError: it cannot be opened.
    """

    def __init__(self, path: str):
        self.name = path
        try:
            self._file = open(path, "a")
        except OSError as error:
            raise cannot_write(path, error) from error

    def write(self, text: str) -> None:
        with tolerated(self.name):
            self._file.write(text)
            self._file.flush()

    def flush(self) -> None:
        """Nothing is kept back."""


def refuses(construct: Callable[..., None]) -> Callable[..., None]:
    """The constructor of a writer of the host, which takes a path; an OSError becomes an OutputError."""

    @functools.wraps(construct)
    def construct_or_refuse(self, path, *args, **kwargs):
        try:
            construct(self, path, *args, **kwargs)
        except OSError as error:
            raise cannot_write(path, error) from error

    return construct_or_refuse


write_metrics, close_metrics = JSONWriter.write, JSONWriter.close
write_events, close_events = TensorboardXWriter.write, TensorboardXWriter.close


def write_json(self) -> None:
    with tolerated(self._file_handle.name):
        write_metrics(self)


def close_json(self) -> None:
    with tolerated(self._file_handle.name):
        close_metrics(self)


def write_tensorboard(self) -> None:
    """TensorboardXWriter.write, where there is room: without it the thread that writes would die with a traceback."""
    folder = self._writer.log_dir
    try:
        with tolerated(folder):
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(ROOM))
            if folder in STOPPED:  # tensorboard reads no file beyond a torn record
                with contextlib.suppress(OSError):
                    close_events(self)
                self._writer = type(self._writer)(folder)
            write_events(self)
            self._writer.flush()
    finally:  # the host clears them when they are written
        get_event_storage().clear_images()
        get_event_storage().clear_histograms()


def close_tensorboard(self) -> None:
    if hasattr(self, "_writer"):  # not where it could not be made
        with tolerated(self._writer.log_dir):
            close_events(self)


@fix
def go_on_where_a_log_cannot_be_written() -> None:
    """A full disk ends a training at the next line of metrics.json, or fills the console with tracebacks of log.txt.

    What cannot be logged is told once, and the training goes on: its checkpoints, which are worth more, may still find
    room, by then or in another file system; a checkpoint that does not find any ends it.
    """
    fastreid.utils.logger._cached_log_stream = functools.cache(LogStream)
    JSONWriter.__init__, TensorboardXWriter.__init__ = (
        refuses(JSONWriter.__init__),
        refuses(TensorboardXWriter.__init__),
    )
    JSONWriter.write, JSONWriter.close = write_json, close_json
    TensorboardXWriter.write, TensorboardXWriter.close = write_tensorboard, close_tensorboard


class WholeFile(io.StringIO):
    """A text that becomes a file where its ``with`` block ends well.

    Args:
        path: of the file; one that is there is replaced as a whole.
    """

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def __exit__(self, kind, *rest):
        if kind is None:
            write_atomically(self.path, lambda file: file.write(self.getvalue().encode()))
        super().__exit__(kind, *rest)


class WholeFiles:
    """The host's PathManager, with text files that are written as a whole or not at all."""

    def __getattr__(self, name: str):
        return getattr(PathManager, name)

    def open(self, path: str, mode: str = "r"):
        return WholeFile(path) if mode == "w" else PathManager.open(path, mode)


@fix
def write_the_config_atomically() -> None:
    """A kill at the start of a run, or a full disk, leaves half a config.yaml, or an empty one in place of the old.

    default_setup and auto_scale_hyperparams write it in place; a resume takes its seed from there.
    """
    fastreid.engine.defaults.PathManager = WholeFiles()
