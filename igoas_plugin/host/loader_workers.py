"""What is said where a worker of a data loader dies, or cannot hand over what it has read."""

import os
import re
import shutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from igoas_plugin.errors import InputError, LostWorker

from .processes import end_with_parent

DEAD = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([^.]+)|exited unexpectedly)")
NO_ROOM = re.compile(r"torch_\S+.*No space left on device|shared memory.*No space left on device", re.S)
SHARED_MEMORY = "/dev/shm"
RAISE_IT = (
    "make it larger (docker run --shm-size 8g, or ipc: host), or lower DATALOADER.NUM_WORKERS; with 0 none is needed"
)


def begin_worker(parent: int, then: Callable[[int], None] | None, worker: int) -> None:
    """A loader's worker ends with the process that it works for, and only with it: Ctrl-C is not for the worker.

    torch's own watch misses a process that ends before its worker has begun, which takes a spawned one seconds.

    Args:
        parent: number of the process that it works for.
        then: what a user lets the worker begin with.
        worker: its number among the loader's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    if then is not None:
        then(worker)


def lost_worker(error: RuntimeError) -> LostWorker | None:
    """What torch says of dead workers, or of full shared memory, as one line of what to do; None: it is another error.

    Args:
        error: as a loader of torch raises it.
    """
    if NO_ROOM.search(str(error)):
        return LostWorker(f"a worker of the data loader found {room()}: {RAISE_IT}")
    match = DEAD.search(str(error))
    if match is None:
        return None
    pids, killed_by = match.groups()
    who = f"a worker of the data loader (process {pids})"
    if killed_by == "Bus error":
        return LostWorker(f"{who} was ended by a bus error: it found {room()}: {RAISE_IT}")
    how = f"was ended from outside ({killed_by})" if killed_by else "ended unexpectedly"
    return LostWorker(
        f"{who} {how}: most likely the machine, or its container, is out of memory; lower DATALOADER.NUM_WORKERS"
    )


def room() -> str:
    """What is left of the memory that processes share."""
    if not os.path.isdir(SHARED_MEMORY):
        return "the shared memory full"
    size, _, free = shutil.disk_usage(SHARED_MEMORY)
    return f"the shared memory full ({SHARED_MEMORY}: {size / 2**20:,.0f} MiB, {free / 2**20:,.0f} free)"


@contextmanager
def lost_workers_in_one_line() -> Iterator[None]:
    """A context in which what torch raises for a lost worker comes as the InputError of lost_worker()."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, InputError):  # of the handler below, while torch waited for a batch
            raise error.__cause__ from None
        raise lost_worker(error) or error from None
    except (OSError, EOFError) as error:
        if not in_a_handover(error):
            raise
        raise LostWorker(
            "a worker of the data loader ended while it handed over a batch: most likely the machine, or its "
            "container, is out of memory; lower DATALOADER.NUM_WORKERS"
        ) from error


def in_a_handover(error: Exception) -> bool:
    """Whether it comes from the socket by which a worker hands over a batch, and not from a data set."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__") == "multiprocessing.connection" for frame in frames)


def mend_handler() -> None:
    """Lets torch's handler of SIGCHLD raise that error too: it raises wherever the main thread is, in a step as well.

    To be called once torch has set its handler, which it does for the first workers of a process.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGCHLD)
    if getattr(handler, "__module__", "") != "torch.utils.data._utils.signal_handling":
        return

    def mended(number, frame) -> None:
        with lost_workers_in_one_line():
            handler(number, frame)

    signal.signal(signal.SIGCHLD, mended)
