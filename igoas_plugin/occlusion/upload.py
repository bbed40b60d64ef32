import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def on_device_of(images: Tensor, values: ArrayLike | Tensor) -> Tensor:
    """Values of the CPU as a tensor of the images' type, where they are; a GPU need not finish its work for that."""
    values = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values, dtype=np.float64))
    values = values.to(images.dtype)
    return values.pin_memory().to(images.device, non_blocking=True) if images.is_cuda else values
