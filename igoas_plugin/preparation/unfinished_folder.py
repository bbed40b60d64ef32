"""A folder that is filled file by file beside its place and moved there when it is complete."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator

from ..atomic_file import rename_finished
from ..errors import InputError

try:
    import fcntl
except ImportError:  # on Windows: two processes at once are not kept apart there
    fcntl = None

NOTE = "made_from"


@contextlib.contextmanager
def unfinished_folder(target: str, note: str) -> Iterator[str]:
    """Gives a folder to fill, ``.<name>.unfinished/<name>`` beside the target; at the end it becomes the target.

    Where a process is killed or interrupted, the folder stays for the next one with the same note. Where an InputError
    or OSError is raised, it is removed.

    Args:
        target: path of the folder that is made; it must not exist.
        note: tells what the folder is made from and how; a folder with another note is begun anew.

    Raises:
        InputError: another process fills or has just finished the folder.
    """
    parent, name = os.path.split(target)
    path = os.path.join(parent, f".{name}.unfinished")
    inner, note_path = os.path.join(path, name), os.path.join(path, NOTE)
    os.makedirs(path, exist_ok=True)
    with _locked(path, target):
        try:
            if _text(note_path) != note:
                _empty(path)
                with open(note_path, "w") as file:
                    file.write(note)
            os.makedirs(inner, exist_ok=True)
            yield inner
            rename_finished(inner, target)
        except (InputError, OSError):
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
def _locked(path: str, target: str) -> Iterator[None]:
    """Keeps other processes out; the lock goes with the process, however it ends."""
    if fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process makes {target}: wait until it has finished") from None
        except OSError:
            pass  # a file system without locks, such as NFS: the last os.rename then decides
        if os.path.lexists(target) or not os.path.samestat(os.fstat(handle), os.stat(path)):
            with contextlib.suppress(OSError):
                os.rmdir(path)
            raise InputError(f"another process has just worked on {target}: run the same command again")
        yield
    finally:
        os.close(handle)


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
