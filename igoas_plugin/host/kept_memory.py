"""Memory that a step has freed stays with the process for the next step."""

import ctypes
import functools

from fastreid.engine.train_loop import TrainerBase
from fastreid.evaluation.evaluator import inference_on_dataset as inference_on_host
from torch import nn

from .fix import fix, replace_everywhere

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
    parameter = next(model.parameters(), None)
    if parameter is not None and parameter.device.type == "cpu":
        keep_freed_memory()


@fix
def keep_the_memory_of_a_step_for_the_next() -> str | None:
    """Speed: on a CPU up to half of a step is spent in the system, which hands out the same memory again and again.

    The feature maps of a batch are larger than what glibc keeps for itself: each is taken from the system as empty
    pages, given back, and taken again. Measured in docs/PERFORMANCE.md, training.
    """
    if glibc() is None:
        return "the C library of this system cannot be told to keep memory"
    train, inference = TrainerBase.train, inference_on_host

    @functools.wraps(train)
    def train_with_memory(self, *args, **kwargs):
        if hasattr(self, "model"):
            keep_on_cpu(self.model)
        train(self, *args, **kwargs)

    @functools.wraps(inference)
    def inference_with_memory(model, *args, **kwargs):
        keep_on_cpu(model)
        return inference(model, *args, **kwargs)

    TrainerBase.train = train_with_memory
    replace_everywhere(inference, inference_with_memory)
