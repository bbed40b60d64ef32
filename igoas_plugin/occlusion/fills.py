"""Fills of an occlusion's rectangle, on the scale of the normalised images."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from igoas_plugin.core.errors import require_choice

ERASING_MEAN = (0.4914, 0.4822, 0.4465)  # of random erasing; the released code fills it into normalised images


def to_device_of(images: Tensor, values: ArrayLike | Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Copies CPU values to the device and dtype (or another one) of the images without synchronising."""
    values = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values, dtype=np.float64))
    values = values.to(dtype or images.dtype)
    return values.pin_memory().to(images.device, non_blocking=True) if images.is_cuda else values


class RandomColour:
    """Fill with one random value for each channel.

    Args:
        kind: "normalised" (U(0, 1) on the normalised image) or "pixel" (U(0, 255) before normalisation).
        pixel_mean, pixel_std: of the normalisation, in [0, 255], for "pixel".

    Raises:
        InputError: the kind is unknown.
    """

    def __init__(self, kind: str, pixel_mean: list[float], pixel_std: list[float]):
        require_choice("MODEL.OCCLUSION.FILL", kind, ("normalised", "pixel"))
        self.kind, self.mean, self.std = kind, np.asarray(pixel_mean), np.asarray(pixel_std)

    def __call__(self, rng: np.random.Generator, images: Tensor, part: slice, rows: slice, columns: slice) -> Tensor:
        """Returns values for images[part, :, rows, columns], in a shape that broadcasts to it."""
        drawn = rng.uniform(size=3)
        values = drawn if self.kind == "normalised" else (255 * drawn - self.mean) / self.std
        return to_device_of(images, values).view(3, 1, 1)


class Constant:
    """Fill with a fixed value for each of the three channels."""

    def __init__(self, *values: float):
        self.values = values

    def __call__(self, rng: np.random.Generator, images: Tensor, part: slice, rows: slice, columns: slice) -> Tensor:
        """Returns values for images[part, :, rows, columns], in a shape that broadcasts to it."""
        return to_device_of(images, self.values).view(3, 1, 1)


class OtherImages:
    """Fill with the same region of another image of the batch; images filled in one call take from different images."""

    def __call__(self, rng: np.random.Generator, images: Tensor, part: slice, rows: slice, columns: slice) -> Tensor:
        """Returns values for images[part, :, rows, columns]."""
        count = len(images)
        step = int(rng.integers(1, count)) if count > 1 else 0
        source = (torch.arange(count, device=images.device)[part] + step) % count
        return images[source, :, rows, columns]
