"""Tensors in memory, or mapped to a file if they are too large for it."""

import os
import tempfile
from pathlib import Path

import torch
from fastreid.utils import comm
from torch import Tensor

from igoas_plugin.core.files import cannot_write

MEMORY_SHARE = 0.25  # share of the memory for descriptors; beyond it they are mapped to a file
CONTAINER = Path("/sys/fs/cgroup/memory.max")  # holds a container's limit in bytes, or "max" (Linux, cgroup v2)


def total_memory() -> float:
    """Returns the memory of the machine or the container in bytes, infinity if it is unknown (Windows)."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):
        return float("inf")
    try:
        return min(memory, int(CONTAINER.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return memory


def memory_limit() -> float:
    """Returns how many bytes of descriptors this process may keep in memory."""
    return MEMORY_SHARE * total_memory() / comm.get_local_size()


def allocate_in_file(shape: tuple[int, ...], dtype: torch.dtype, folder: str) -> Tensor:
    """Returns an empty tensor that is mapped to an unnamed file in `folder`; the file is freed with the tensor.

    Raises:
        OutputError: the disk is full.
    """
    tensor, folder = torch.empty(shape, dtype=dtype, device="meta"), os.path.abspath(folder)
    os.makedirs(folder, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        try:
            # without it, writing to the tensor on a full disk kills the process with SIGBUS
            os.posix_fallocate(file.fileno(), 0, max(tensor.nbytes, 1))
        except OSError as error:
            raise cannot_write(file.name, error) from error
        except AttributeError:  # macOS does not have it
            pass
        return torch.from_file(file.name, shared=True, size=tensor.numel(), dtype=dtype).view(shape)


def allocate(shape: tuple[int, ...], dtype: torch.dtype, folder: str) -> Tensor:
    """Returns an empty tensor, in memory up to memory_limit() and in a file in `folder` beyond it."""
    tensor = torch.empty(shape, dtype=dtype, device="meta")
    return allocate_in_file(shape, dtype, folder) if tensor.nbytes > memory_limit() else torch.empty(shape, dtype=dtype)
