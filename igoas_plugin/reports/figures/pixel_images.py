"""Images of a figure: which ones, read as in an evaluation, normalised and back to pixels."""

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from fastreid.data.transforms import build_transforms
from torch import Tensor

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.images import read_image

T = TypeVar("T")


def first_test_set(cfg) -> str:
    """Returns the first of DATASETS.TESTS; raises InputError if there is none."""
    if not cfg.DATASETS.TESTS:
        raise InputError("DATASETS.TESTS is empty: name a data set with query and gallery, such as ToyOccluded")
    return cfg.DATASETS.TESTS[0]


def drawn(things: Sequence[T], count: int, seed: int) -> list[T]:
    """Draws `count` things at random, or takes all if there are no more, and keeps their order."""
    positions = random.Random(seed).sample(range(len(things)), min(count, len(things)))
    return [things[position] for position in sorted(positions)]


def read_images(cfg, paths: Sequence[str], size: Sequence[int]) -> Tensor:
    """Reads N images as an evaluation does, but in another size.

    Args:
        cfg: config of the model, for its INPUT.
        size: [height, width].

    Returns:
        (N, 3, height, width), RGB in [0, 255].

    Raises:
        UnreadableImage: a file is missing or damaged.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.SIZE_TEST = list(size)
    transform = build_transforms(cfg, is_train=False)
    return torch.stack([transform(read_image(path)) for path in paths])


class PixelScale:
    """Conversion between pixels in [0, 255] and the normalised images of a model.

    Args:
        mean, std: mean and deviation of the normalisation, three values each, in [0, 255].
    """

    def __init__(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor):
        self.mean, self.std = (torch.as_tensor(values).reshape(1, 3, 1, 1) for values in (mean, std))

    def normalised(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def pixels(self, normalised: Tensor) -> Tensor:
        return normalised * self.std + self.mean


def to_show(images: Tensor) -> np.ndarray:
    """Converts (B, 3, H, W) in about [0, 255] to (B, H, W, 3), uint8, for matplotlib."""
    return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
