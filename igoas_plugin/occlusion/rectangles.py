import math
from typing import NamedTuple

import numpy as np

TRIES = 1000  # drawing fails where the image is much wider than high; a strip of full width always fits


class Rectangle(NamedTuple):
    """In pixels; (top, left) is the first pixel inside."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Indexes the last two dimensions of an image."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def draw_rectangle(rng: np.random.Generator, height: int, width: int, share: float, aspect_min: float) -> Rectangle:
    """One rectangle that covers a share of an image, at a uniformly random place.

    While a square of that area fits the width: height / width of the rectangle ~ U(aspect_min, 1), redrawn until it
    fits; else a strip of full width. Source: BatchIncErasing of the released code of IGOAS (torchreid/models/bfe.py).

    Args:
        rng: the only source of randomness.
        height, width: of the image, in pixels.
        share: of the image's area, in (0, 1).
        aspect_min: smallest height / width, in (0, 1].

    Example:
        >>> draw_rectangle(np.random.default_rng(0), height=30, width=10, share=0.5, aspect_min=0.5).width
        10
    """
    area = share * height * width
    box = (round(area / width), width)
    if math.sqrt(area) <= width:
        for _ in range(TRIES):
            aspect = rng.uniform(aspect_min, 1)
            drawn = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if drawn[0] <= height and drawn[1] <= width:
                box = drawn
                break
    h, w = max(box[0], 1), max(box[1], 1)
    top, left = rng.integers(0, height - h, endpoint=True), rng.integers(0, width - w, endpoint=True)
    return Rectangle(int(top), int(left), h, w)
