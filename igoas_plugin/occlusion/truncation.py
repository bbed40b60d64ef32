"""A side of the image is cut off: what a detector gives of a person who stands behind something."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.run_progress import RunProgress
from igoas_plugin.fastreid_fixes.preprocessing import stored_as

from .fills import on_device_of
from .schedule import PaperSchedule, ReleasedSchedule

LARGEST = 0.7  # of an image that is cut off
# Below as a rule, where what people stand behind is; above; one side; or a border all around (a narrow box)
CUTS = ("bottom", "top", "side", "border")
CHANCES = (0.5, 0.2, 0.15, 0.15)


class Truncation:
    """Cuts a part off some images and enlarges the rest to their whole size, each in its own way.

    Partial-REID and Partial-iLIDS hold such images: their boxes end where the person is hidden. The part that is cut
    off is drawn uniformly from 0 to twice the share of the schedule.

    Args:
        schedule: mean share of an image that is cut off, by progress.
        prob: probability that an image is cut, in [0, 1].

    Raises:
        InputError: prob leaves its range.
    """

    def __init__(self, schedule: ReleasedSchedule | PaperSchedule, prob: float):
        if not 0 <= prob <= 1:
            raise InputError(f"MODEL.OCCLUSION.TRUNCATION must stay in [0, 1], got {prob}")
        self.schedule, self.prob = schedule, prob

    def __call__(
        self, rng: np.random.Generator, progress: RunProgress, images: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New images, and their masks of what is visible, cut with them.

        Args:
            rng: the only source of randomness.
            progress: of the run.
            images, visible: (B, 3, H, W) and (B, 1, H, W); not modified.
        """
        most = min(2 * self.schedule(progress), LARGEST)
        boxes = [draw_box(rng, most) if rng.random() < self.prob else (0.0, 0.0, 1.0, 1.0) for _ in images]
        return zoom(images, boxes, "bilinear"), zoom(visible, boxes, "nearest")


def draw_box(rng: np.random.Generator, most: float) -> tuple[float, float, float, float]:
    """What is left of an image: (left, top, right, bottom), each a part of its width or height."""
    cut, share = rng.choice(CUTS, p=CHANCES), rng.uniform(0, most)
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
    """Each image's box, enlarged to the size of the images.

    Args:
        images: (B, C, H, W).
        boxes: left, top, right, bottom of each, in [0, 1].
        mode: "bilinear" or "nearest".
    """
    left, top, right, bottom = on_device_of(images, boxes).unbind(1)
    nothing = torch.zeros_like(left)
    rows = (right - left, nothing, left + right - 1), (nothing, bottom - top, top + bottom - 1)
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1)
    with torch.autocast(images.device.type, enabled=False):  # 16 bits would move pixels by a quarter of one
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return stored_as(images, F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False))
