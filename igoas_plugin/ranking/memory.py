import os
import tempfile

import numpy as np
import torch
from torch import Tensor

MEMORY_SHARE = 0.25  # of the machine's memory, that a tensor may take before it is mapped to a file


def memory_limit() -> float:
    """Bytes from which on a tensor is mapped to a file; infinite where the system tells no memory size (Windows)."""
    try:
        return MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):
        return float("inf")


def mapped(shape: tuple[int, ...], dtype: torch.dtype, folder: str) -> Tensor:
    """An empty tensor that is mapped to a file of its own in `folder`: one without a name, which goes with it."""
    os.makedirs(folder or ".", exist_ok=True)
    with tempfile.TemporaryFile(dir=folder or ".") as file:
        return torch.from_numpy(np.memmap(file, torch.empty(0, dtype=dtype).numpy().dtype, "w+", shape=shape))


def room(shape: tuple[int, ...], dtype: torch.dtype, folder: str) -> Tensor:
    """An empty tensor: in memory, or mapped() where it would take more than memory_limit()."""
    tensor = torch.empty(shape, dtype=dtype, device="meta")
    return mapped(shape, dtype, folder) if tensor.nbytes > memory_limit() else torch.empty(shape, dtype=dtype)
