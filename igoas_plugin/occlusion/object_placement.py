"""Placement of drawn objects: where several of them stand in each image so that they cover a share of it."""

from dataclasses import dataclass

import numpy as np

POINTS = (32, 16)  # rows and columns of the grid on which covered shares are measured
SCALES = (0.1, 4.0)  # smallest and largest common scale of the objects of an image
STEPS = 8  # of the bisection for the scale: leaves 1.5 % of it


@dataclass(frozen=True)
class Placement:
    """Objects in front of B images, up to K an image; every array has the shape (B, K).

    Lengths are parts of the image's height, or of its width for x, ratio and their like. An object of scale s has the
    height size * max(s, floor). It stands in its final place for s >= floor, and further out for a smaller scale.

    Args:
        opaque: bool, the opaque pixels of the N pictures, shape (N, h, w).
        picture: index in `opaque`.
        present: whether there is an object.
        size: height.
        ratio: width / height.
        floor: smallest scale.
        x: place of the middle.
        drop: part of the height beyond the lower border, or the upper one if above.
        side: -1 or 1 comes in from the left or right, 0 from below or above.
        above: whether the object hangs in from above.
        mirrored: whether left and right are exchanged.
    """

    opaque: np.ndarray
    picture: np.ndarray
    present: np.ndarray
    size: np.ndarray
    ratio: np.ndarray
    floor: np.ndarray
    x: np.ndarray
    drop: np.ndarray
    side: np.ndarray
    above: np.ndarray
    mirrored: np.ndarray

    def boxes(self, scale: np.ndarray) -> np.ndarray:
        """Returns top, left, height and width, shape (4, B, K); a mirrored box starts right and has a negative width.

        Args:
            scale: of all objects of an image, shape (B,).
        """
        scale = scale[:, None]
        entered = np.where(self.floor > scale, scale / np.maximum(self.floor, scale), 1.0)
        height = self.size * np.maximum(scale, self.floor)
        width = self.ratio * height
        outside = 0.5 + self.side * (0.5 + width / 2)
        x = np.where(self.side == 0, self.x, outside + entered * (self.x - outside))
        bottom = np.where(self.above, height * (1 - self.drop), 1 + self.drop * height)
        start = np.where(self.side != 0, bottom, np.where(self.above, 0.0, 1 + height))
        top = start + entered * (bottom - start) - height
        width = np.where(self.mirrored, -width, width)
        return np.stack([top, x - width / 2, height, width])

    def covered(self, scale: np.ndarray) -> np.ndarray:
        """Returns the share of each image that opaque pixels cover, measured on a grid of points, shape (B,)."""
        top, left, height, width = (each[..., None] for each in self.boxes(scale))
        count, rows, columns = self.opaque.shape
        down, right = ((np.arange(points) + 0.5) / points for points in POINTS)
        row = np.clip((down - top) / height * rows, 0, rows - 1).astype(np.intp)
        column = np.clip((right - left) / width * columns, 0, columns - 1).astype(np.intp)
        place = ((self.picture[..., None] * rows + row) * columns)[..., None] + column[..., None, :]
        hit = self.opaque.ravel().take(place) & self.present[..., None, None]  # pictures have a transparent border
        return hit.any(1).mean((1, 2), dtype=np.float32)

    def scale_for(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scale at which the objects of each image cover a share of it, and what they cover, both (B,)."""
        low, high = (np.full(len(self.picture), each) for each in SCALES)
        for _ in range(STEPS):
            middle = np.sqrt(low * high)
            enough = self.covered(middle) >= share
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        scale = np.sqrt(low * high)
        return scale, self.covered(scale)


def draw_placement(rng: np.random.Generator, table: np.ndarray, opaque: np.ndarray, pictures: np.ndarray) -> Placement:
    """Draws where objects stand; one to K of them are present in each image.

    Args:
        rng: the only source of randomness.
        table: of the Atlas of the objects.
        opaque: as in Placement.
        pictures: index in the atlas of each possible object, shape (B, K).
    """
    count, most = shape = pictures.shape
    of_kind = table[pictures]
    side = np.where(rng.random(shape) < of_kind["beside"], rng.choice([-1, 1], shape), 0)
    return Placement(
        opaque=opaque,
        picture=pictures,
        present=np.arange(most) < rng.integers(1, most, (count, 1), endpoint=True),
        size=of_kind["height"] * rng.uniform(0.85, 1.2, shape),
        ratio=of_kind["ratio"] * rng.uniform(0.9, 1.1, shape),
        floor=of_kind["floor"],
        x=0.5 + np.where(side == 0, rng.uniform(-0.4, 0.4, shape), side * rng.uniform(0.1, 0.45, shape)),
        drop=of_kind["drop"] * rng.uniform(0.2, 1, shape),
        side=side,
        above=of_kind["above"] > 0,
        mirrored=rng.random(shape) < 0.5,
    )
