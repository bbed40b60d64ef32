"""Progress of a run, read from the event storage of fast-reid's trainer."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from fastreid.utils import events


class RunProgress(NamedTuple):
    """Zero-based epoch and iteration; `iters_per_epoch` is None if no trainer has published it."""

    epoch: int
    iteration: int
    iters_per_epoch: int | None


def current_storage() -> events.EventStorage | None:
    """Returns the open event storage, or None."""
    return events.get_event_storage() if events._CURRENT_STORAGE_STACK else None


def run_progress() -> RunProgress | None:
    """Returns the progress in the open event storage (epoch 0 if it has no epoch), or None if no storage is open."""
    storage = current_storage()
    if storage is None:
        return None
    return RunProgress(getattr(storage, "epoch", 0), storage.iter, getattr(storage, "iters_per_epoch", None))


def ensured_storage() -> AbstractContextManager:
    """Returns a context in which fast-reid can log: the open event storage, or a new one that is discarded."""
    return nullcontext() if current_storage() is not None else events.EventStorage()
