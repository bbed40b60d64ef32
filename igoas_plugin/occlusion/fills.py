"""What an occlusion block puts into its rectangle, on the scale of the normalised images."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from igoas_plugin.core.errors import require_choice


def on_device_of(images: Tensor, values: ArrayLike | Tensor) -> Tensor:
    """Values of the CPU as a tensor of the images' type, where they are; a GPU need not finish its work for that."""
    values = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values, dtype=np.float64))
    values = values.to(images.dtype)
    return values.pin_memory().to(images.device, non_blocking=True) if images.is_cuda else values


ERASING_MEAN = (0.4914, 0.4822, 0.4465)  # of random erasing; the released code fills it into normalised images


class RandomColour:
    """One random value a channel.

    Args:
        kind: "normalised" (U(0, 1) on the normalised image) or "pixel" (U(0, 255), then normalised).
        pixel_mean, pixel_std: of the normalisation, in [0, 255], for "pixel".

    Raises:
        InputError: another kind.
    """

    def __init__(self, kind: str, pixel_mean: list[float], pixel_std: list[float]):
        require_choice("MODEL.OCCLUSION.FILL", kind, ("normalised", "pixel"))
        self.kind, self.mean, self.std = kind, np.asarray(pixel_mean), np.asarray(pixel_std)

    def __call__(self, rng: np.random.Generator, images: Tensor, part: slice, rows: slice, columns: slice) -> Tensor:
        """Values for images[part, :, rows, columns], of a shape that broadcasts to it."""
        drawn = rng.uniform(size=3)
        values = drawn if self.kind == "normalised" else (255 * drawn - self.mean) / self.std
        return on_device_of(images, values).view(3, 1, 1)


class Constant:
    """The same value a channel each time.

    Args:
        values: of the three channels.
    """

    def __init__(self, *values: float):
        self.values = values

    def __call__(self, rng: np.random.Generator, images: Tensor, part: slice, rows: slice, columns: slice) -> Tensor:
        """Values for images[part, :, rows, columns], of a shape that broadcasts to it."""
        return on_device_of(images, self.values).view(3, 1, 1)


class OtherImages:
    """The same place of another image of the batch; of images that are filled at once each takes from another one."""

    def __call__(self, rng: np.random.Generator, images: Tensor, part: slice, rows: slice, columns: slice) -> Tensor:
        """Values for images[part, :, rows, columns]."""
        count = len(images)
        step = int(rng.integers(1, count)) if count > 1 else 0
        giver = (torch.arange(count, device=images.device)[part] + step) % count
        return images[giver, :, rows, columns]
