"""Truncation: a side of the image is cut off, as in a detector's box of a partly hidden person."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.run_progress import RunProgress
from igoas_plugin.fastreid_fixes.preprocessing import stored_as

from .fills import to_device_of
from .schedule import Schedule

LARGEST = 0.7  # largest part of an image that is cut off
# Most objects hide the bottom of a person; "border" cuts all four sides, as a narrow box does
CUTS = {"bottom": 0.5, "top": 0.2, "side": 0.15, "border": 0.15}  # kind: probability


class Truncation:
    """Augmentation that cuts a part off some images and enlarges the rest to the full size, differently for each image.

    Partial-REID and Partial-iLIDS hold such images: their boxes end at the hidden part of the person. The part that is
    cut off is drawn uniformly from 0 to twice the share of the schedule, at most LARGEST.

    Args:
        schedule: mean share of an image that is cut off, by progress of the run.
        prob: probability that an image is cut, in [0, 1].

    Raises:
        InputError: prob is outside its range.
    """

    def __init__(self, schedule: Schedule, prob: float):
        if not 0 <= prob <= 1:
            raise InputError(f"MODEL.OCCLUSION.TRUNCATION must be in [0, 1], got {prob}")
        self.schedule, self.prob = schedule, prob

    def __call__(
        self, rng: np.random.Generator, progress: RunProgress, images: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the cut images and their masks, cut in the same way.

        Args:
            rng: the only source of randomness.
            progress: of the run.
            images, visible: (B, 3, H, W) and (B, 1, H, W); not modified.
        """
        most = min(2 * self.schedule(progress), LARGEST)
        boxes = [draw_box(rng, most) if rng.random() < self.prob else (0.0, 0.0, 1.0, 1.0) for _ in images]
        return zoom(images, boxes, "bilinear"), zoom(visible, boxes, "nearest")


def draw_box(rng: np.random.Generator, most: float) -> tuple[float, float, float, float]:
    """Draws the box that remains of an image: (left, top, right, bottom), each a part of its width or height.

    Args:
        rng: the only source of randomness.
        most: largest part that is cut off, in [0, 1].
    """
    cut, share = rng.choice(list(CUTS), p=list(CUTS.values())), rng.uniform(0, most)
    if cut == "bottom":
        return 0.0, 0.0, 1.0, 1 - share
    if cut == "top":
        return 0.0, share, 1.0, 1.0
    if cut == "side":
        return (share, 0.0, 1.0, 1.0) if rng.random() < 0.5 else (0.0, 0.0, 1 - share, 1.0)
    side = (1 - share) ** 0.5
    left, top = rng.uniform(0, 1 - side, size=2)
    return left, top, left + side, top + side


def zoom(images: Tensor, boxes: list[tuple[float, float, float, float]], mode: str) -> Tensor:
    """Returns the box of each image, enlarged to the size of the images.

    Args:
        images: (B, C, H, W).
        boxes: left, top, right, bottom of each, in [0, 1].
        mode: "bilinear" or "nearest".
    """
    left, top, right, bottom = to_device_of(images, boxes).unbind(1)
    nothing = torch.zeros_like(left)
    rows = (right - left, nothing, left + right - 1), (nothing, bottom - top, top + bottom - 1)
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1)
    with torch.autocast(images.device.type, enabled=False):  # in 16 bits, pixels would move by a quarter pixel
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return stored_as(images, F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False))
