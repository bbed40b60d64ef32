"""Picture of ToyOccluded: a pedestrian before a camera, with or without clutter in between."""

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
OVERSAMPLING = 3  # drawn this many times larger, then averaged, so that edges are smooth
LEAST_COVERED, MOST_COVERED = 0.2, 0.5  # share of the pedestrian that clutter hides in an occluded picture


@dataclass(frozen=True)
class Picture:
    """Picture, with the places of pedestrian and clutter."""

    image: Image.Image  # RGB, 64 x 128
    person: np.ndarray  # True where the pedestrian is, hidden or not: (128 * OVERSAMPLING, 64 * OVERSAMPLING)
    clutter: np.ndarray  # True where clutter is, of the same shape


def pedestrian(identity: int) -> Pedestrian:
    """Returns the pedestrian of an identity, counted from 1.

    1 and 2, 3 and 4, ... wear the same colours of top and bottom. They differ in cut, pattern, hair, shoes and bag.
    """
    return dress(source("outfit", identity), shared=source("colours", (identity - 1) // 2))


def draw_picture(identity: int, camera: int, index: int, occluded: bool) -> Picture:
    """Draws a picture; the same arguments give the same pixels, whatever was drawn before.

    Args:
        identity: number of the pedestrian, from 1.
        camera: index into CAMERAS.
        index: number of the picture of this identity in this camera.
        occluded: True puts clutter before the pedestrian, which hides a share in [LEAST_COVERED, MOST_COVERED].
    """
    size = (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING)
    shot = source("shot", identity, camera, index)
    canvas = background(camera, size, shot)
    pose = random_pose(CAMERAS[camera].tilt, shot)
    figure, shadow = draw_pedestrian(size, pedestrian(identity), pose), Image.new("L", size)
    Pen(shadow, OVERSAMPLING, pose.foot).ellipse(3, -1, 15, 3.5, 90)
    canvas.paste((20, 20, 28), mask=shadow)
    canvas.paste(figure, mask=figure)
    person = mask_of(figure)
    clutter = np.zeros_like(person)
    if occluded:
        random = source("clutter", identity, camera, index)
        while not LEAST_COVERED <= share_covered(person, clutter) <= MOST_COVERED:
            layer = draw_clutter(size, random)
            clutter = mask_of(layer)
        canvas.paste(layer, mask=layer)
    return Picture(CAMERAS[camera].expose(canvas.reduce(OVERSAMPLING), shot), person, clutter)


def random_pose(tilt: float, random: RandomState) -> Pose:
    """Returns how a pedestrian walks and is seen in one picture; `tilt` is that of the camera."""
    return Pose(
        view=VIEWS[random.randint(len(VIEWS))],
        mirrored=bool(random.randint(2)),
        phase=random.uniform(0, 2 * np.pi),
        stride=random.uniform(0.25, 0.5),
        foot=((WIDTH / 2 + random.uniform(-4, 4)) * OVERSAMPLING, (HEIGHT - 4 + random.uniform(-3, 3)) * OVERSAMPLING),
        size=random.uniform(116, 124) * tilt * OVERSAMPLING,
    )


def mask_of(layer: Image.Image) -> np.ndarray:
    """Returns True where an RGBA layer is drawn on, shape (height, width)."""
    return np.asarray(layer.getchannel("A")) > 0


def share_covered(person: np.ndarray, clutter: np.ndarray) -> float:
    """Returns the share of the pedestrian that clutter hides, in [0, 1]."""
    return float((person & clutter).sum() / person.sum())
