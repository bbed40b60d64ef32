"""Memory that a step has freed stays with the process for the next step.

On a CPU up to half of a step is spent in the system, which hands out the same memory again and again: the feature maps
of a batch are larger than what glibc keeps for itself. Each is taken from the system as empty pages, given back, and
taken again. Measured in docs/PERFORMANCE.md, training.
"""

import ctypes
import functools

from torch import nn

# Of mallopt() in glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


@functools.cache
def glibc() -> ctypes.CDLL | None:
    """The C library, where it is the GNU one (most of Linux); no other can be told what to do with freed memory."""
    try:
        library = ctypes.CDLL(None)
        return library if library.mallopt else None
    except (AttributeError, OSError, TypeError):  # TypeError: Windows
        return None


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, until it ends."""
    if library := glibc():
        library.mallopt(M_MMAP_MAX, 0)  # no block is the system's own
        library.mallopt(M_TRIM_THRESHOLD, -1)


def keep_on_cpu(model: nn.Module) -> None:
    """Lets this process keep what it frees where the model is on the CPU; one without parameters is on no device."""
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if parameter is not None and parameter.device.type == "cpu":
        keep_freed_memory()
