"""Lock of a run's folder: one run at a time in an OUTPUT_DIR."""

import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Iterator

from filelock import FileLock, Timeout

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import write_atomically

from .distributed import under_torchrun

logger = logging.getLogger("fastreid.igoas_plugin")

LOCK, OWNER = ".lock", ".lock_owner"  # hidden files in OUTPUT_DIR: the locked one, and the text that names the owner
WAIT_SECONDS = 1.0  # a killed run's loader workers hold the lock until they have ended too
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # errors of a file system without locks


@contextlib.contextmanager
def run_lock(folder: str, machine_rank: int = 0) -> Iterator[None]:
    """Holds the lock of a run's folder, which it creates; the kernel releases the lock when the process dies.

    Only the first process of a run holds the lock: that of RANK 0 under torchrun, else that of machine 0. A file system
    without locks gives a warning. The folder is removed again if the run has written nothing.

    Raises:
        InputError: another run holds the lock, or the lock cannot be created.
    """
    if (int(os.environ["RANK"]) if under_torchrun() else machine_rank) != 0:
        yield
        return
    lock = FileLock(os.path.join(folder, LOCK))
    try:
        os.makedirs(folder, exist_ok=True)
        lock.acquire(timeout=WAIT_SECONDS)
    except Timeout:
        raise InputError(
            f"OUTPUT_DIR {folder} is used by {read_owner(folder)}: wait until it has ended, or name another folder"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise InputError(
                f"OUTPUT_DIR {folder} cannot be locked: {os.path.join(folder, LOCK)}: {error.strerror}; name another "
                "folder"
            ) from None
        logger.warning(f"The file system of {folder} has no locks: do not start a second run there")
    owner = os.path.join(folder, OWNER)
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    text = f"a run since {since}: process {os.getpid()} on {socket.gethostname()}"
    try:
        write_atomically(owner, lambda file: file.write(text.encode()))
        yield
    finally:
        for path in (owner, lock.lock_file):  # before the release: filelock retries if the file that it locks is gone
            with contextlib.suppress(OSError):
                os.remove(path)
        lock.release()
        with contextlib.suppress(OSError):  # the folder is not empty unless the run failed before it wrote a file
            os.rmdir(folder)


def read_owner(folder: str) -> str:
    """Returns start, process and host of the run that holds the lock of a folder, in words."""
    try:
        with open(os.path.join(folder, OWNER), encoding="utf-8", errors="replace") as file:
            return file.read(1000)
    except OSError:
        return "another run, which has just started"
