"""The values of a scalar that a training has logged so far."""

import functools

from fastreid.utils.history_buffer import HistoryBuffer

from .fix import fix

KEPT = 1000  # values of a scalar: the longest window that the host looks at (the median time of a step)
construct = HistoryBuffer.__init__


@functools.wraps(construct)
def construct_short(self, max_length: int = KEPT):
    construct(self, max_length)


@fix
def forget_scalars_of_long_ago() -> None:
    """Memory: a training keeps the last million values of every scalar: 2 kB a step, a GB in half a million steps.

    Nobody looks further back than a thousand; the mean over a whole run is counted beside them.
    """
    HistoryBuffer.__init__ = construct_short
