"""Setting that lets a process keep freed memory for the next step.

On a CPU up to half of a training step is spent in the kernel, which hands out the same memory again and again. The
feature maps of a batch are larger than the blocks that glibc keeps: each is allocated as fresh pages, and returned to
the kernel when it is freed. docs/PERFORMANCE.md has the measurements ("Training on a CPU").
"""

import ctypes

from torch import nn

# From mallopt() in glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Makes this process keep the memory that it frees until it ends, if its C library is glibc, as on most Linux."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library has no mallopt(), and Windows no library None
        return
    mallopt(M_MMAP_MAX, 0)  # never allocates a block by mmap()
    mallopt(M_TRIM_THRESHOLD, -1)


def keep_on_cpu(model: nn.Module) -> None:
    """Makes this process keep the memory that it frees if the model has parameters on the CPU."""
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if parameter is not None and parameter.device.type == "cpu":
        keep_freed_memory()
