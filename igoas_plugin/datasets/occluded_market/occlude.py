"""What is put before a pedestrian, or cut off."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from .image_source import source
from .textures import texture

SEVERITIES = range(6)
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # of the image's area that is hidden or cut off, by severity
ASPECTS = (50, 300)  # height : width of what is put before a pedestrian, in hundredths
SIDES = ("bottom", "bottom", "bottom", "top", "left", "right")  # that truncation cuts off: mostly the legs


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def draw_box(random: RandomState, height: int, width: int, share: float) -> Box:
    """A rectangle that covers `share` of an image, where it fits.

    Shape and place are drawn before the share is looked at: over the severities a rectangle of one image grows about
    one place.
    """
    low, high = ASPECTS
    aspect = random.randint(low, high + 1) / 100
    down, right = random.random_sample(2)
    area = share * height * width
    box_height = int(min(height, max(1, round(np.sqrt(area * aspect)), np.ceil(area / width))))
    box_width = int(min(width, max(1, round(area / box_height))))
    return Box(int(down * (height - box_height + 1)), int(right * (width - box_width + 1)), box_height, box_width)


def cover(image: np.ndarray, box: Box, pixels: np.ndarray) -> np.ndarray:
    covered = image.copy()
    covered[box.slices] = pixels
    return covered


def rectangle(image: np.ndarray, name: str, share: float, donor: Callable[[], np.ndarray]) -> np.ndarray:
    """A rectangle of one random colour: the one kind that is like the occlusion that IGOAS trains with."""
    random = source("rectangle", name)
    box = draw_box(random, *image.shape[:2], share)
    return cover(image, box, random.randint(0, 256, 3).astype(np.uint8))


def pedestrian(image: np.ndarray, name: str, share: float, donor: Callable[[], np.ndarray]) -> np.ndarray:
    """A patch of another pedestrian, from the middle of the donor's image, as of a passer-by."""
    random = source("pedestrian", name)
    height, width = image.shape[:2]
    box, down = draw_box(random, height, width, share), random.random_sample()
    other = fitted(donor(), height, width)
    patch = Box(int(down * (height - box.height + 1)), (width - box.width) // 2, box.height, box.width)
    return cover(image, box, other[patch.slices])


def textured(image: np.ndarray, name: str, share: float, donor: Callable[[], np.ndarray]) -> np.ndarray:
    """A rectangle with a pattern of several colours: fence, tiles, wall or bush."""
    random = source("texture", name)
    box = draw_box(random, *image.shape[:2], share)
    return cover(image, box, texture(random, box.height, box.width))


def truncation(image: np.ndarray, name: str, share: float, donor: Callable[[], np.ndarray]) -> np.ndarray:
    """The image without the share of it on one side, as a detector cuts a person who is half hidden: it is smaller."""
    height, width = image.shape[:2]
    side = SIDES[source("truncation", name).randint(len(SIDES))]
    rows, columns = height - round(share * height), width - round(share * width)
    kept = {"bottom": image[:rows], "top": image[-rows:], "left": image[:, -columns:], "right": image[:, :columns]}
    return kept[side].copy()


def fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image in another size by its nearest pixels; of Market-1501 all images are 128 x 64, and stay as they are."""
    rows, columns = np.arange(height) * image.shape[0] // height, np.arange(width) * image.shape[1] // width
    return image[rows][:, columns]


OCCLUDERS = {"rectangle": rectangle, "pedestrian": pedestrian, "texture": textured, "truncation": truncation}
KINDS = ("all", *OCCLUDERS)


def kind_of(name: str) -> str:
    """Which kind of occlusion an image gets where there are all kinds: each a quarter of the images, by their names."""
    return tuple(OCCLUDERS)[source("kind", name).randint(len(OCCLUDERS))]


def occlude(
    image: np.ndarray, name: str, severity: int, donor: Callable[[], np.ndarray], kind: str = "all"
) -> np.ndarray:
    """An image with the occlusion that its name, a severity and a kind give it: bit-identical on every machine.

    Args:
        image: RGB, uint8, shape (H, W, 3); it is not modified.
        name: of the image, as Market-1501 has it, without the suffix: ``0001_c1s1_001051_00``.
        severity: 0 (none) to 5 (half of the image).
        donor: gives the image of another pedestrian, RGB, uint8; it is called by the kind "pedestrian" alone.
        kind: one of KINDS; "all" gives each image one of the others.

    Returns:
        RGB, uint8, shape (H, W, 3); truncation gives fewer rows or columns.

    Raises:
        ValueError: a severity or kind that there is not.
    """
    if severity not in SEVERITIES or kind not in KINDS:
        raise ValueError(f"severity must be 0 to 5 and kind one of {', '.join(KINDS)}, got {severity} and {kind}")
    if severity == 0:
        return image.copy()
    return OCCLUDERS[kind_of(name) if kind == "all" else kind](image, name, SHARES[severity], donor)
