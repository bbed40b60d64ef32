"""How far the run is, as the host's trainer writes it to its event storage."""

from contextlib import nullcontext
from typing import NamedTuple

from fastreid.utils import events


class RunProgress(NamedTuple):
    """Zero-based epoch and iteration; `iters_per_epoch` is None where no trainer has told it."""

    epoch: int
    iteration: int
    iters_per_epoch: int | None


def current_storage() -> events.EventStorage | None:
    return events.get_event_storage() if events._CURRENT_STORAGE_STACK else None


def run_progress() -> RunProgress | None:
    """The progress that the event storage knows: epoch 0 in one without epoch, None where no storage is open."""
    storage = current_storage()
    if storage is None:
        return None
    return RunProgress(getattr(storage, "epoch", 0), storage.iter, getattr(storage, "iters_per_epoch", None))


def ensured_storage():
    """A context in which the host can log: the open event storage, or a new one that is thrown away."""
    return nullcontext() if current_storage() is not None else events.EventStorage()
