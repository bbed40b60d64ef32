"""Files and folders that are written as a whole or not at all."""

import contextlib
import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from .errors import InputError, OutputError, PluginError

HOST = socket.gethostname().split(".")[0]
UNFINISHED = re.compile(r".+\.(?P<host>[^.]*)\.(?P<pid>\d+)\.writing")  # names that name_beside() gives
LEFT_OVER = 24 * 3600.0  # seconds after which an unfinished file of another machine counts as left over


def write_atomically(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Writes a new file beside `path`, then renames it, so that a reader sees the old file or the whole new one.

    This holds after a kill at any moment, and after a power cut if the disk keeps what it has confirmed.

    Args:
        path: path of the file. An existing file is replaced, a missing folder is made.
        write: function that writes the content into the open file.

    Raises:
        OutputError: the file cannot be written. An existing file is unchanged.
    """
    path = os.path.abspath(path)
    folder, unfinished = os.path.dirname(path), name_beside(path)
    try:
        os.makedirs(folder, exist_ok=True)
        remove_left_over(folder)
        try:
            with open(unfinished, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            with contextlib.suppress(OSError):  # it was renamed
                os.remove(unfinished)
    except PluginError:
        raise
    except Exception as error:
        failure = error
        while failure and not isinstance(failure, OSError):  # on a full disk torch.save() raises a RuntimeError
            failure = failure.__context__
        if failure:
            raise cannot_write(path, failure) from error
        raise
    sync_folder(folder)


@contextlib.contextmanager
def temporary_folder(target: str) -> Iterator[str]:
    """Makes a folder beside `target`, to be filled and then renamed; removes it at the end if it is still there."""
    parent, unfinished = os.path.dirname(os.path.abspath(target)), name_beside(os.path.abspath(target))
    os.makedirs(parent, exist_ok=True)
    remove_left_over(parent)
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed process with the same number
    os.mkdir(unfinished)
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def rename_finished(folder: str, target: str) -> bool:
    """Renames a complete folder after its files are on the disk.

    Returns:
        False if the target exists because another process was faster.
    """
    if hasattr(os, "sync"):  # not on Windows; one call, because one fsync for each of thousands would take a minute
        os.sync()
    try:
        os.rename(folder, target)
    except OSError:
        if os.path.isdir(target):
            return False
        raise
    sync_folder(os.path.dirname(os.path.abspath(target)))
    return True


def name_beside(path: str) -> str:
    """Returns the name of a file or folder while this process writes it."""
    return f"{path}.{HOST}.{os.getpid()}.writing"


def remove_left_over(folder: str) -> None:
    """Removes the unfinished files of killed processes: of this machine at once, of other machines after a day."""
    for entry in list(os.scandir(folder)):
        if writer := UNFINISHED.fullmatch(entry.name):
            with contextlib.suppress(OSError):  # another process has removed it
                old = time.time() - entry.stat().st_mtime > LEFT_OVER
                # on Windows os.kill(pid, 0) would send Ctrl-C
                known = writer["host"] == HOST and os.name != "nt"
                if not is_running(int(writer["pid"])) if known else old:
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.remove(entry.path)


def is_running(pid: int) -> bool:
    """Returns whether a process of this number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        pass
    return True


def sync_folder(folder: str) -> None:
    """Makes a new name in a folder survive a power cut, on file systems that can sync folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def cannot_write(
    path: str, failure: OSError, advice: str = "name another folder (OUTPUT_DIR of a run, --output of a tool)"
) -> OutputError:
    """Returns the error for a file or folder that cannot be written, with the free space if the disk is full."""
    path, reason = os.path.abspath(path), failure.strerror or str(failure)
    if failure.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = os.path.dirname(path)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        reason += f", {shutil.disk_usage(folder).free / 1e6:,.1f} MB are free in {folder}"
        advice = f"make room, or {advice}"
    return OutputError(f"cannot write {path}: {reason}: {advice}")


def check_output(folder: str, key: str = "OUTPUT_DIR") -> None:
    """Raises InputError, with the key, if the folder neither exists nor can be made."""
    existing = os.path.abspath(folder) if folder else ""
    while existing and not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK):
        raise InputError(f"{key} {folder!r} cannot be written: name a folder that can be created")


def check_output_file(path: str, option: str = "--output") -> None:
    """Raises InputError, with the option, if the path is a folder, or its folder cannot be made."""
    if os.path.isdir(path):
        raise InputError(f"{option} {path} is a folder: name a file in it")
    check_output(os.path.dirname(os.path.abspath(path)), f"the folder of {option}")
