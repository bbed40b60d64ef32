"""Where the rectangle of an occlusion block lies: one small class a way of drawing it."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.run_progress import RunProgress

from .schedule import PaperSchedule, ReleasedSchedule

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


@dataclass(frozen=True)
class ScheduledRectangle:
    """A rectangle whose share of the image grows with the progress of the run.

    Source: BatchIncErasing and BatchDrop of the released code of IGOAS (torchreid/models/bfe.py).

    Args:
        schedule: share of the image by progress.
        aspect_min: smallest height / width of a rectangle that is narrower than the image, in (0, 1].

    Raises:
        InputError: aspect_min leaves its range.
    """

    schedule: ReleasedSchedule | PaperSchedule
    aspect_min: float = 0.5

    def __post_init__(self):
        if not 0 < self.aspect_min <= 1:
            raise InputError(f"MODEL.OCCLUSION.ASPECT_MIN must stay in (0, 1], got {self.aspect_min}")

    def __call__(self, rng: np.random.Generator, progress: RunProgress, height: int, width: int) -> Rectangle:
        """One rectangle for an image of that height and width, in pixels."""
        return draw_rectangle(rng, height, width, self.schedule(progress), self.aspect_min)


@dataclass(frozen=True)
class RandomRectangle:
    """A rectangle of a random share of the image, as random erasing draws it; the progress does not matter.

    Source: BatchRandomErasing, RandomErasing and RandomDrop of the released code of IGOAS, with their parameters.

    Args:
        share: smallest and largest share of the image's area.
        aspect_min: smallest height / width; the largest is 1 / aspect_min.
    """

    share: tuple[float, float] = (0.25, 0.5)
    aspect_min: float = 0.5

    def __call__(self, rng: np.random.Generator, progress: RunProgress, height: int, width: int) -> Rectangle:
        """One rectangle that is lower and narrower than an image of that height and width, in pixels."""
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
    """A block of fixed size over the full width.

    Source: SlowDropBlock and Batch_DropBlock of the released code of IGOAS; BDB: Dai et al., ICCV 2019.

    Args:
        height_ratio: its height as a part of the image's, in (0, 1).
    """

    height_ratio: float = 0.3

    def __call__(self, rng: np.random.Generator, progress: RunProgress, height: int, width: int) -> Rectangle:
        """The block in an image, or a feature map, of that height and width."""
        return placed(rng, height, width, round(self.height_ratio * height), width)


def draw_rectangle(rng: np.random.Generator, height: int, width: int, share: float, aspect_min: float) -> Rectangle:
    """One rectangle that covers a share of an image, at a uniformly random place.

    While a square of that area fits the width: height / width of the rectangle ~ U(aspect_min, 1), redrawn until it
    fits; else a strip of full width.

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
    """A rectangle of h x w pixels, at least one each, uniformly over all places that fit."""
    h, w = max(h, 1), max(w, 1)
    top, left = rng.integers(0, height - h, endpoint=True), rng.integers(0, width - w, endpoint=True)
    return Rectangle(int(top), int(left), h, w)
