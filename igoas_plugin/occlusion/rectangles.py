"""Rectangles of the occlusion blocks: one small class for each way to draw them."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.run_progress import RunProgress

from .schedule import Schedule

TRIES = 1000  # on images much wider than high no drawn rectangle fits; a strip of full width always does


class Rectangle(NamedTuple):
    """Rectangle in pixels; (top, left) is its first pixel."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Returns the index of the last two dimensions of an image."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class ScheduledRectangle:
    """Rectangle whose share of the image grows with the progress of the run.

    Source: BatchIncErasing and BatchDrop of the released code of IGOAS (torchreid/models/bfe.py).

    Args:
        schedule: share of the image by progress.
        aspect_min: smallest height / width of a rectangle that is narrower than the image, in (0, 1].

    Raises:
        InputError: aspect_min is outside its range.
    """

    schedule: Schedule
    aspect_min: float = 0.5

    def __post_init__(self):
        if not 0 < self.aspect_min <= 1:
            raise InputError(f"MODEL.OCCLUSION.ASPECT_MIN must be in (0, 1], got {self.aspect_min}")

    def __call__(self, rng: np.random.Generator, progress: RunProgress, height: int, width: int) -> Rectangle:
        """Draws a rectangle for an image of that height and width, in pixels."""
        return draw_rectangle(rng, height, width, self.schedule(progress), self.aspect_min)


@dataclass(frozen=True)
class RandomRectangle:
    """Rectangle with a random share of the image, as in random erasing, whatever the progress of the run.

    Source: BatchRandomErasing, RandomErasing and RandomDrop of the released code of IGOAS, with their parameters.

    Args:
        share: smallest and largest share of the area of the image.
        aspect_min: smallest height / width; the largest is 1 / aspect_min.
    """

    share: tuple[float, float] = (0.25, 0.5)
    aspect_min: float = 0.5

    def __call__(self, rng: np.random.Generator, progress: RunProgress, height: int, width: int) -> Rectangle:
        """Draws a rectangle that is lower and narrower than an image of that height and width, in pixels."""
        for _ in range(TRIES):
            area, aspect = rng.uniform(*self.share) * height * width, rng.uniform(self.aspect_min, 1 / self.aspect_min)
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < height and w < width:
                break
        else:
            h, w = round(area / width), width
        return placed(rng, height, width, h, w)


@dataclass(frozen=True)
class Band:
    """Band of fixed height over the full width.

    Source: SlowDropBlock and Batch_DropBlock of the released code of IGOAS; BDB: Dai et al., ICCV 2019.

    Args:
        height_ratio: height of the band as a part of the height of the image, in (0, 1).
    """

    height_ratio: float = 0.3

    def __call__(self, rng: np.random.Generator, progress: RunProgress, height: int, width: int) -> Rectangle:
        """Draws the band for an image, or a feature map, of that height and width."""
        return placed(rng, height, width, round(self.height_ratio * height), width)


def draw_rectangle(rng: np.random.Generator, height: int, width: int, share: float, aspect_min: float) -> Rectangle:
    """Draws a rectangle that covers a share of an image, at a uniformly random place.

    If a square of that area fits the width, height / width ~ U(aspect_min, 1), redrawn until the rectangle fits.
    Otherwise the rectangle is a strip of full width.

    Args:
        rng: the only source of randomness.
        height, width: of the image, in pixels.
        share: of the area of the image, in (0, 1).
        aspect_min: smallest height / width, in (0, 1].

    Example:
        >>> draw_rectangle(np.random.default_rng(0), height=30, width=10, share=0.5, aspect_min=0.5).width
        10
    """
    area = share * height * width
    h, w = round(area / width), width
    if math.sqrt(area) <= width:
        for _ in range(TRIES):
            aspect = rng.uniform(aspect_min, 1)
            drawn = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if drawn[0] <= height and drawn[1] <= width:
                h, w = drawn
                break
    return placed(rng, height, width, h, w)


def placed(rng: np.random.Generator, height: int, width: int, h: int, w: int) -> Rectangle:
    """Draws the place of a rectangle of h x w pixels, at least 1 x 1, uniformly over all places that fit."""
    h, w = max(h, 1), max(w, 1)
    top, left = rng.integers(0, height - h, endpoint=True), rng.integers(0, width - w, endpoint=True)
    return Rectangle(int(top), int(left), h, w)
