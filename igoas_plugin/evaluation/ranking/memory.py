import errno
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from igoas_plugin.core.errors import InputError

MEMORY_SHARE = 0.25  # of the memory, that descriptors may take before they are mapped to a file
CONTAINER = Path("/sys/fs/cgroup/memory.max")  # bytes that a container may take, or "max" (Linux, cgroup v2)


def whole_memory() -> float:
    """Bytes of the machine, or of the container; infinite where the system does not tell (Windows)."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):
        return float("inf")
    try:
        return min(memory, int(CONTAINER.read_text()))
    except (OSError, ValueError):
        return memory


def memory_limit() -> float:
    """Bytes from which on descriptors go to a file."""
    return MEMORY_SHARE * whole_memory()


def mapped(shape: tuple[int, ...], dtype: torch.dtype, folder: str) -> Tensor:
    """An empty tensor that is mapped to a file of its own in `folder`: one without a name, which goes with it.

    Raises:
        InputError: there is no room for it.
    """
    tensor = torch.empty(shape, dtype=dtype, device="meta")
    os.makedirs(folder or ".", exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder or ".") as file:
        try:
            # a file with holes would end the process, without a word, at the page that the disk has no room for
            os.posix_fallocate(file.fileno(), 0, max(tensor.nbytes, 1))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(
                f"{os.path.abspath(folder or '.')} has no room for descriptors of {tensor.nbytes / 1e6:.0f} MB, which "
                f"are more than the memory is for ({error.strerror}): make room, or name another OUTPUT_DIR"
            ) from None
        except AttributeError:  # macOS has no such function
            pass
        return torch.from_file(file.name, shared=True, size=tensor.numel(), dtype=dtype).view(shape)


def room(shape: tuple[int, ...], dtype: torch.dtype, folder: str, limit: float) -> Tensor:
    """An empty tensor: in memory, or mapped() where it would take more than `limit` bytes."""
    tensor = torch.empty(shape, dtype=dtype, device="meta")
    return mapped(shape, dtype, folder) if tensor.nbytes > limit else torch.empty(shape, dtype=dtype)
