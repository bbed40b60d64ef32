"""Occlusions that hide a part of a pedestrian, or cut it off."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

VERSION = 1  # of the drawing; raise it with any change that alters a pixel
SEVERITIES = range(6)
# Share of the image's area that is hidden or cut off, by severity, in the two versions of the data set. In the second
# one a baseline keeps about half of its whole-body Rank-1 at severity 3, and a fifth to a quarter at severity 5
# (docs/data.md)
SHARES = {1: (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), 2: (0.0, 0.05, 0.1, 0.15, 0.23, 0.32)}
ASPECTS = (50, 300)  # height / width of a rectangle, in hundredths
LEAST_CONTRAST = 120  # of 255, in the channel where the two colours of a texture differ most
SIDES = ("bottom", "bottom", "bottom", "top", "left", "right")  # sides that truncation cuts off: mostly the legs


def source(purpose: str, name: str) -> RandomState:
    """Returns the random source of one image for one purpose, the same on every machine.

    RandomState, unlike numpy's newer Generator, promises the same numbers in every version of numpy.

    Args:
        purpose: word for what is drawn.
        name: file name of the image in Market-1501, without the suffix.
    """
    digest = hashlib.sha256(f"{VERSION}/{purpose}/{name}".encode()).digest()
    return RandomState(np.frombuffer(digest, dtype="<u4"))


@dataclass(frozen=True)
class Box:
    """Rectangle in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the rectangle, as an index."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def draw_box(random: RandomState, height: int, width: int, share: float) -> Box:
    """Returns a random rectangle inside an image that covers `share` of it.

    The draws of shape and place do not depend on the share, so that the rectangle of an image grows with the severity
    but stays near one place.
    """
    low, high = ASPECTS
    aspect = random.randint(low, high + 1) / 100
    down, right = random.random_sample(2)
    area = share * height * width
    box_height = int(min(height, max(1, round(np.sqrt(area * aspect)), np.ceil(area / width))))
    box_width = int(min(width, max(1, round(area / box_height))))
    return Box(int(down * (height - box_height + 1)), int(right * (width - box_width + 1)), box_height, box_width)


def cover(image: np.ndarray, box: Box, pixels: np.ndarray) -> np.ndarray:
    """Returns a copy of the image with other pixels in the rectangle."""
    covered = image.copy()
    covered[box.slices] = pixels
    return covered


def rectangle(image: np.ndarray, name: str, share: float, donor: Callable[[], np.ndarray]) -> np.ndarray:
    """Covers a rectangle with one random colour, the one kind that resembles the occlusion that IGOAS trains with."""
    random = source("rectangle", name)
    box = draw_box(random, *image.shape[:2], share)
    return cover(image, box, random.randint(0, 256, 3).astype(np.uint8))


def pedestrian(image: np.ndarray, name: str, share: float, donor: Callable[[], np.ndarray]) -> np.ndarray:
    """Covers a rectangle with a patch from the middle of another pedestrian's image, as a passer-by would."""
    random = source("pedestrian", name)
    height, width = image.shape[:2]
    box, down = draw_box(random, height, width, share), random.random_sample()
    other = fitted(donor(), height, width)
    patch = Box(int(down * (height - box.height + 1)), (width - box.width) // 2, box.height, box.width)
    return cover(image, box, other[patch.slices])


def textured(image: np.ndarray, name: str, share: float, donor: Callable[[], np.ndarray]) -> np.ndarray:
    """Covers a rectangle with a pattern of two colours: fence, tiles, wall or bush."""
    random = source("texture", name)
    box = draw_box(random, *image.shape[:2], share)
    return cover(image, box, texture(random, box.height, box.width))


def truncation(image: np.ndarray, name: str, share: float, donor: Callable[[], np.ndarray]) -> np.ndarray:
    """Cuts the share off one side, as a detector does with a half-hidden person; the result is smaller."""
    height, width = image.shape[:2]
    side = SIDES[source("truncation", name).randint(len(SIDES))]
    rows, columns = height - round(share * height), width - round(share * width)
    kept = {"bottom": image[:rows], "top": image[-rows:], "left": image[:, -columns:], "right": image[:, :columns]}
    return kept[side].copy()


def fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the image in another size by nearest pixels; images of Market-1501 are all 128 x 64 and do not change."""
    rows, columns = np.arange(height) * image.shape[0] // height, np.arange(width) * image.shape[1] // width
    return image[rows][:, columns]


def contrasting_colours(random: RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Returns two RGB colours, uint8, that differ by LEAST_CONTRAST or more in a channel."""
    while True:
        first, second = random.randint(0, 256, (2, 3))
        if np.abs(first - second).max() >= LEAST_CONTRAST:
            return first.astype(np.uint8), second.astype(np.uint8)


def stripes(random: RandomState, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns stripes, upright, level or slanting, as of a fence or a blind."""
    down, right = ((0, 1), (1, 0), (1, 1), (1, -1))[random.randint(4)]
    return (down * rows + right * columns) // random.randint(3, 9) % 2


def checks(random: RandomState, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns squares, as of tiles or a scarf."""
    size = random.randint(4, 9)
    return (rows // size + columns // size) % 2


def bricks(random: RandomState, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns a wall: joints of one pixel around bricks that are shifted by half in every second row."""
    height = random.randint(5, 9)
    shifted = columns + rows // height % 2 * height
    return (rows % height == 0) | (shifted % (2 * height) == 0)


def leaves(random: RandomState, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns random spots, as of a bush: a coarse grid of noise with single pixels flipped."""
    size = random.randint(3, 7)
    height, width = rows.max() + 1, columns.max() + 1
    coarse = random.randint(0, 2, (height // size + 1, width // size + 1))
    return coarse[rows // size, columns // size] ^ (random.randint(0, 4, (height, width)) == 0)


PATTERNS = (stripes, checks, bricks, leaves)


def texture(random: RandomState, height: int, width: int) -> np.ndarray:
    """Returns one of PATTERNS in two contrasting colours with a light grain: RGB, uint8, shape (height, width, 3)."""
    rows, columns = np.indices((height, width))
    first, second = contrasting_colours(random)
    pattern = PATTERNS[random.randint(len(PATTERNS))](random, rows, columns).astype(bool)
    grain = random.randint(-12, 13, (height, width, 1))
    return np.clip(np.where(pattern[..., None], first, second) + grain, 0, 255).astype(np.uint8)


OCCLUDERS = {"rectangle": rectangle, "pedestrian": pedestrian, "texture": textured, "truncation": truncation}
KINDS = ("all", *OCCLUDERS)


def kind_of(name: str) -> str:
    """Returns the kind of occlusion that an image gets by its name: each kind is that of a quarter of the images."""
    return tuple(OCCLUDERS)[source("kind", name).randint(len(OCCLUDERS))]


def occlude(
    image: np.ndarray, name: str, severity: int, donor: Callable[[], np.ndarray], kind: str = "all", version: int = 1
) -> np.ndarray:
    """Returns an image with an occlusion that is bit-identical on every machine.

    Args:
        image: RGB, uint8, shape (H, W, 3); it is not modified.
        name: file name of the image in Market-1501, without the suffix: ``0001_c1s1_001051_00``.
        severity: 0 (none) to 5.
        donor: function that returns the image of another pedestrian, RGB, uint8. Only the kind "pedestrian" calls it.
        kind: one of KINDS; "all" gives each image one of the others.
        version: of the shares, 1 or 2. An occlusion has the same kind, shape and place in both.

    Returns:
        RGB, uint8, shape (H, W, 3); truncation gives fewer rows or columns.

    Raises:
        ValueError: the severity or kind does not exist.
    """
    if severity not in SEVERITIES or kind not in KINDS:
        raise ValueError(f"severity must be 0 to 5 and kind one of {', '.join(KINDS)}, got {severity} and {kind}")
    if severity == 0:
        return image.copy()
    return OCCLUDERS[kind_of(name) if kind == "all" else kind](image, name, SHARES[version][severity], donor)


def hidden_share(severity: int, version: int) -> int:
    """Returns the share of an image that a severity hides or cuts off, in %."""
    return round(100 * SHARES[version][severity])
