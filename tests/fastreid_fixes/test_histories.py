import tracemalloc

import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import pytest
from fastreid.utils.events import EventStorage
from fastreid.utils.history_buffer import HistoryBuffer

from igoas_plugin.fastreid_fixes.async_metrics import KEPT

STEPS = 20_000


def memory_of(make) -> int:
    """Returns the bytes that the result of a function holds."""
    tracemalloc.start()
    kept = make()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept is not None
    return held


def filled(buffer: HistoryBuffer) -> HistoryBuffer:
    for step in range(STEPS):
        buffer.update(step + 0.5, step)
    return buffer


def test_a_long_training_holds_no_more_than_a_short_one():
    theirs, ours = memory_of(lambda: filled(HistoryBuffer(1_000_000))), memory_of(lambda: filled(HistoryBuffer()))
    assert theirs > 100 * STEPS  # bytes: a tuple, a float, an int and a place in a list for each
    assert ours < 200 * KEPT


def test_the_values_that_are_read_stay():
    theirs, ours = filled(HistoryBuffer(1_000_000)), filled(HistoryBuffer())
    assert (ours.latest(), ours.median(KEPT), ours.avg(20)) == (theirs.latest(), theirs.median(KEPT), theirs.avg(20))
    assert ours.global_avg() == theirs.global_avg() == pytest.approx(STEPS / 2)


def test_the_storage_of_a_training_uses_it():
    with EventStorage() as storage:
        for _ in range(KEPT + 5):
            storage.put_scalar("loss", 1.0)
            storage.step()
        assert len(storage.history("loss").values()) == KEPT
