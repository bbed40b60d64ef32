"""A folder that is filled file by file beside its place and moved there when it is complete."""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator

from igoas_plugin.core.errors import PluginError
from igoas_plugin.core.files import rename_finished

try:
    import fcntl
except ImportError:  # on Windows: two processes at once are not kept apart there
    fcntl = None

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are

NOTE = "made_from"


@contextlib.contextmanager
def unfinished_folder(target: str, note: str) -> Iterator[str | None]:
    """Gives a folder to fill, ``.<name>.unfinished/<name>`` beside the target; at the end it becomes the target.

    Where a process is killed or interrupted, the folder stays for the next one with the same note. Where a PluginError
    or OSError is raised, it is removed. While another process fills it, this one waits; it gets None where the other
    one has made the target.

    Args:
        target: path of the folder that is made; it must not exist.
        note: tells what the folder is made from and how; a folder with another note is begun anew.
    """
    parent, name = os.path.split(target)
    path = os.path.join(parent, f".{name}.unfinished")
    inner, note_path = os.path.join(path, name), os.path.join(path, NOTE)
    with _locked(path, target) as is_missing:
        if not is_missing:
            yield None
            return
        try:
            if _text(note_path) != note:
                _empty(path)
                with open(note_path, "w") as file:
                    file.write(note)
            os.makedirs(inner, exist_ok=True)
            yield inner
            rename_finished(inner, target)
        except (PluginError, OSError):
            shutil.rmtree(path, ignore_errors=True)
            raise
        shutil.rmtree(path, ignore_errors=True)


def put(folder: str, path: str, write: Callable[[str], None]) -> None:
    """Writes a file of an unfinished folder unless it is there; under its name it is whole or not there.

    Args:
        folder: as unfinished_folder() gives it.
        path: of the file below the folder.
        write: makes the file at the path that it gets.
    """
    final = os.path.join(folder, path)
    if os.path.islink(final) or (os.path.exists(final) and os.path.getsize(final) > 0):  # a power cut empties files
        return
    os.makedirs(os.path.dirname(final), exist_ok=True)
    half = os.path.join(os.path.dirname(folder), f"half_written_{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):  # of a killed process with the same number
        os.remove(half)
    write(half)
    os.replace(half, final)


@contextlib.contextmanager
def _locked(path: str, target: str) -> Iterator[bool]:
    """Makes the folder and keeps other processes out; the lock goes with the process, however it ends.

    Gives whether the target is still missing.
    """
    while True:
        os.makedirs(path, exist_ok=True)
        if fcntl is None:
            yield True
            return
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # the process that had it has just removed it
            continue
        try:
            _wait_for_lock(handle, target)
            if os.path.lexists(target):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
                yield False
                return
            if _is(handle, path):  # else it was removed while this process waited
                yield True
                return
        finally:
            os.close(handle)


def _wait_for_lock(handle: int, target: str) -> None:
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("another process makes %s: this one waits for it", target)
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system that locks no folders, such as NFS: the last os.rename then decides


def _is(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _text(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def _empty(folder: str) -> None:
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.remove(entry.path)
