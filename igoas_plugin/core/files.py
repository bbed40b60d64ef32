"""Files and folders: written as a whole or not at all, read only where they are regular, temporary ones removed."""

import contextlib
import errno
import io
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from glob import escape, glob
from typing import IO, BinaryIO

from .errors import InputError, OutputError

HOST = socket.gethostname().split(".")[0]
WRITING = re.compile(r".+\.(?P<host>[^.]*)\.(?P<pid>\d+)\.writing")  # name of a file that is being written
LEFT_OVER = 24 * 3600.0  # seconds after which a file of another machine counts as left over
FULL = (errno.ENOSPC, errno.EDQUOT)


def write_atomically(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Calls `write(file)` on a new file beside `path` and renames it: a reader sees the old file or the new one.

    That holds for a kill at any moment, and for a power cut where the disk keeps what it has confirmed. What killed
    writers left in the folder goes.

    Args:
        path: of the file; one that is there is replaced. Its folder must exist.
        write: is called with a new file.

    Raises:
        OutputError: it cannot be written; what was there before stays.
    """
    if "\0" in path:
        raise OutputError(f"cannot write {path}: its path holds a null character: name another file")
    folder, new = os.path.dirname(os.path.abspath(path)), None
    beside = name_beside(path)
    try:
        remove_left_over(folder)
        new = NewFile(beside, "w")
        with io.BufferedWriter(new) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        if new is not None:
            with contextlib.suppress(OSError):
                os.remove(beside)
        failure = error if isinstance(error, OSError) else new and new.failure
        if failure and isinstance(error, Exception):
            raise cannot_write(path, failure) from error
        raise
    sync_folder(folder)


class NewFile(io.FileIO):
    """A file that keeps what went wrong: of a full disk torch.save() makes a RuntimeError that does not name it."""

    failure: OSError | None = None

    def write(self, content) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.failure = error
            raise


def name_beside(path: str) -> str:
    """The name of what is still being written by this process; remove_left_over() knows it."""
    return f"{path}.{HOST}.{os.getpid()}.writing"


def cannot_write(
    path: str, failure: OSError, advice: str = "name another folder (OUTPUT_DIR of a run, --output of a tool)"
) -> OutputError:
    """What to tell a user of a file or folder that cannot be written, and of a full disk how much is free.

    Args:
        path: of the file or folder.
        failure: what the system said.
        advice: how the user writes to another place.
    """
    path, reason = os.path.abspath(path), failure.strerror or str(failure)
    if failure.errno in FULL:
        folder = os.path.dirname(path)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        reason += f", {shutil.disk_usage(folder).free / 1e6:,.1f} MB are free in {folder}"
        advice = f"make room, or {advice}"
    return OutputError(f"cannot write {path}: {reason}: {advice}")


def remove_left_over(folder: str) -> None:
    """Removes what killed writers left: of this machine where the process is gone, of others after a day."""
    for entry in list(os.scandir(folder)):
        if writer := WRITING.fullmatch(entry.name):
            with contextlib.suppress(OSError):  # another process was faster
                running = is_running(int(writer["pid"])) if writer["host"] == HOST else None
                old = time.time() - entry.stat().st_mtime > LEFT_OVER
                if old if running is None else not running:
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.remove(entry.path)


def is_running(pid: int) -> bool | None:
    """Whether there is a process of this number; None where the system cannot be asked (Windows)."""
    if os.name == "nt":
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def rename_finished(finished: str, folder: str) -> None:
    """Renames a folder that is complete; its files are on the disk before it has its name."""
    if hasattr(os, "sync"):  # one call for all of them: thousands of single ones take a minute
        os.sync()
    os.rename(finished, folder)
    sync_folder(os.path.dirname(os.path.abspath(folder)))


def sync_folder(folder: str) -> None:
    """Lets a new name in a folder survive a power cut; some file systems, and Windows, refuse, and nothing is done."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_path(word: str) -> bool:
    """Returns whether the system takes a word as a path: not an empty one, nor one with a NUL or a lone surrogate."""
    try:
        return bool(word) and b"\0" not in os.fsencode(word)
    except UnicodeEncodeError:
        return False


def check_output(folder: str, key: str = "OUTPUT_DIR") -> None:
    """Raises InputError, naming the key, where the folder neither exists nor can be made."""
    existing = os.path.abspath(folder) if is_path(folder) else ""
    while existing and not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK):
        raise InputError(f"{key} {folder!r} cannot be written: name a folder that can be created")


def check_output_file(path: str, option: str = "--output") -> None:
    """Raises InputError, naming the option, where a path is a folder, or lies in one that cannot be made."""
    if os.path.isdir(path):
        raise InputError(f"{option} {path} is a folder: name a file in it")
    check_output(os.path.dirname(os.path.abspath(path)), f"the folder of {option}")


def write_output(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file as a whole or not at all, and makes its folder.

    Args:
        path: of the file; one that is there is replaced.
        write: is called with a new file.

    Raises:
        OutputError: it cannot be written.
    """
    make_folder(os.path.dirname(os.path.abspath(path)))
    write_atomically(path, write)


def make_folder(path: str) -> None:
    """Makes a folder, and those around it, where it is missing; raises OutputError where it cannot be made."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None


def open_regular(path: str | os.PathLike, mode: str = "rb", **options) -> IO:
    """open() of a regular file.

    Args:
        path: of the file.
        mode, options: as open() takes them.

    Raises:
        OSError: as open(); or there is a pipe, a device or a socket, or the path holds a null character.
    """
    if "\0" in os.fspath(path):
        raise OSError(errno.EINVAL, "its path holds a null character", path)
    return open(path, mode, opener=regular_alone, **options)


def regular_alone(path: str | os.PathLike, flags: int) -> int:
    """An opener for open(), which refuses folders itself; it does not wait for whoever writes into a pipe."""
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    kind = os.fstat(handle).st_mode
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
        return handle
    os.close(handle)
    raise OSError(errno.EINVAL, "it is no regular file", path)


try:
    import fcntl
except ImportError:  # on Windows: what a killed process left stays there
    fcntl = None


@contextlib.contextmanager
def scratch_folder(parent: str, prefix: str) -> Iterator[str]:
    """Gives the path of a new folder, which is removed at the end; those that killed processes left are removed first.

    A process holds a lock on its folder, which ends with it. Where a file system locks no folders (NFS), what was left
    stays.

    Args:
        parent: the folder that it is made in.
        prefix: of its name; tells what belongs together.
    """
    for left in glob(os.path.join(escape(parent), f"{prefix}*")):
        _remove_if_left(left)
    path, handle = _new(parent, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _new(parent: str, prefix: str) -> tuple[str, int | None]:
    """A new folder, and the handle that holds its lock."""
    while True:
        path = tempfile.mkdtemp(prefix=prefix, dir=parent)
        if fcntl is None:
            return path, None
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(path, os.O_RDONLY)
            with contextlib.suppress(OSError):  # no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.exists(path):  # another process may have taken it for left before it was locked
                return path, handle
            os.close(handle)


def _remove_if_left(path: str) -> None:
    if fcntl is None:
        return
    with contextlib.suppress(OSError):  # gone meanwhile, locked, or no locks
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(handle)
