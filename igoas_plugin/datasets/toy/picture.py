"""One picture of ToyOccluded: a pedestrian before a camera, with or without clutter in between."""

from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from PIL import Image

from .camera import CAMERAS, background
from .clutter import draw_clutter
from .pedestrian import VIEWS, Pedestrian, Pose, draw_pedestrian, dress
from .pen import Pen
from .scene_source import source

WIDTH, HEIGHT = 64, 128
OVERSAMPLING = 3  # drawn this many times larger, then averaged: smooth edges
LEAST_COVERED, MOST_COVERED = 0.2, 0.5  # share of the pedestrian that clutter hides in an occluded picture


@dataclass(frozen=True)
class Picture:
    """A picture and how it came about.

    Args:
        image: RGB, 64 x 128.
        person: True where the pedestrian is, hidden or not, shape (128 * OVERSAMPLING, 64 * OVERSAMPLING).
        clutter: True where clutter is, of the same shape.
    """

    image: Image.Image
    person: np.ndarray
    clutter: np.ndarray

    @property
    def covered(self) -> float:
        """Share of the pedestrian that clutter hides, in [0, 1]."""
        return _covered(self.person, self.clutter)


def pedestrian(identity: int) -> Pedestrian:
    """The pedestrian behind an identity (counted from 1).

    1 and 2, 3 and 4, ... wear the same colours of top and bottom: they differ in cut, pattern, hair, shoes and bag.
    """
    return dress(source("outfit", identity), shared=source("colours", (identity - 1) // 2))


def draw_picture(identity: int, camera: int, index: int, occluded: bool) -> Picture:
    """Draws a picture; the same arguments give the same pixels, whatever was drawn before.

    Args:
        identity: from 1.
        camera: from 0, below len(CAMERAS).
        index: which picture of this identity in this camera.
        occluded: True puts clutter before the pedestrian, which hides a share of it in [LEAST_COVERED, MOST_COVERED].
    """
    size = (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING)
    shot = source("shot", identity, camera, index)
    canvas = background(camera, size, shot)
    pose = _pose(CAMERAS[camera].tilt, shot)
    figure = draw_pedestrian(size, pedestrian(identity), pose)
    canvas.paste((20, 20, 28), mask=_shadow(size, pose.foot))
    canvas.paste(figure, mask=figure)
    person = np.asarray(figure.getchannel("A")) > 0
    clutter = np.zeros_like(person)
    if occluded:
        layer = _covering(size, person, source("clutter", identity, camera, index))
        canvas.paste(layer, mask=layer)
        clutter = np.asarray(layer.getchannel("A")) > 0
    return Picture(CAMERAS[camera].expose(canvas.reduce(OVERSAMPLING), shot), person, clutter)


def _pose(tilt: float, rng: RandomState) -> Pose:
    return Pose(
        view=VIEWS[rng.randint(len(VIEWS))],
        mirrored=bool(rng.randint(2)),
        phase=rng.uniform(0, 2 * np.pi),
        stride=rng.uniform(0.25, 0.5),
        foot=((WIDTH / 2 + rng.uniform(-4, 4)) * OVERSAMPLING, (HEIGHT - 4 + rng.uniform(-3, 3)) * OVERSAMPLING),
        size=rng.uniform(116, 124) * tilt * OVERSAMPLING,
    )


def _shadow(size: tuple[int, int], foot: tuple[float, float]) -> Image.Image:
    mask = Image.new("L", size)
    Pen(mask, OVERSAMPLING, foot).ellipse(3, -1, 15, 3.5, 90)
    return mask


def _covering(size: tuple[int, int], person: np.ndarray, rng: RandomState) -> Image.Image:
    """Clutter that hides neither too little nor too much of the pedestrian: redrawn until it does."""
    while True:
        layer = draw_clutter(size, rng)
        if LEAST_COVERED <= _covered(person, np.asarray(layer.getchannel("A")) > 0) <= MOST_COVERED:
            return layer


def _covered(person: np.ndarray, clutter: np.ndarray) -> float:
    return float((person & clutter).sum() / person.sum())
