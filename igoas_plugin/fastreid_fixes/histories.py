"""Shorter histories of the scalars of a training."""

import functools

from fastreid.utils.history_buffer import HistoryBuffer

from .fix import fix

KEPT = 1000  # values of a scalar; fast-reid's longest window is the median time of a step over 1,000 steps
original_init = HistoryBuffer.__init__


@functools.wraps(original_init)
def init_short(self, max_length: int = KEPT):
    original_init(self, max_length)


@fix
def keep_short_histories() -> None:
    """A long training fills the memory: half a million steps take a GB, as every scalar keeps a million values.

    Nothing reads more than the last thousand values; the mean over a whole run is counted separately.
    """
    HistoryBuffer.__init__ = init_short
