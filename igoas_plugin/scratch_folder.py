"""A folder for what is not finished, which goes with the process that works in it."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from glob import escape, glob

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
