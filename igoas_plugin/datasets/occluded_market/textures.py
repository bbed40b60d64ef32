"""Patterns of two colours, computed in whole numbers so that they do not depend on rounding."""

from collections.abc import Callable

import numpy as np
from numpy.random import RandomState

LEAST_CONTRAST = 120  # of 255, in the channel where the two colours differ most


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


PATTERNS: tuple[Callable[[RandomState, np.ndarray, np.ndarray], np.ndarray], ...] = (stripes, checks, bricks, leaves)


def texture(random: RandomState, height: int, width: int) -> np.ndarray:
    """Returns one of PATTERNS in two contrasting colours with a light grain.

    Args:
        random: random source.
        height: height in pixels.
        width: width in pixels.

    Returns:
        RGB, uint8, shape (height, width, 3).
    """
    rows, columns = np.indices((height, width))
    first, second = contrasting_colours(random)
    pattern = PATTERNS[random.randint(len(PATTERNS))](random, rows, columns).astype(bool)
    grain = random.randint(-12, 13, (height, width, 1))
    return np.clip(np.where(pattern[..., None], first, second) + grain, 0, 255).astype(np.uint8)
