"""Files that are there as a whole or not at all."""

import contextlib
import errno
import io
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from typing import BinaryIO

from .errors import OutputError

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
