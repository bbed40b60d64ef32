"""CutoutOcclusion: objects cut out of photographs, from a folder of the user."""

import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.config import configurable
from PIL import Image
from torch import Tensor

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.run_progress import RunProgress
from igoas_plugin.datasets.image_files import image_files

from .block import OCCLUSION_REGISTRY, OcclusionBlock, block_settings
from .fills import on_device_of
from .schedule import PaperSchedule, ReleasedSchedule, build_schedule

LARGEST = 512  # pixels of a side that are kept of a cut-out in memory
OPAQUE = 0.5  # alpha from which a pixel counts as occluded
FITTINGS = 8  # steps in which the size is brought to the wanted share where the image cuts a cut-out off
GROWTH = 1.5  # of the sides in one of these steps, at most


@OCCLUSION_REGISTRY.register()
class CutoutOcclusion(OcclusionBlock):
    """Before each image stands an object of its own, larger as training goes on: by the incremental schedule.

    The objects are the files with an alpha channel (png, tif) in MODEL.OCCLUSION.CUTOUTS, such as bicycles, bins or
    people cut out of photographs. Each image gets one of them, at a random place, scaled so that its opaque pixels
    cover the share of the schedule; what does not fit is cut off by the border.

    Args:
        schedule: share of the image by progress of the run.
        cutouts: (4, h, w) each: RGB in [0, 255] and alpha in [0, 1].
        pixel_mean, pixel_std: of the normalisation, in [0, 255].
        settings: of OcclusionBlock.
    """

    @configurable
    def __init__(
        self,
        *,
        schedule: ReleasedSchedule | PaperSchedule,
        cutouts: list[Tensor],
        pixel_mean: list[float],
        pixel_std: list[float],
        **settings,
    ):
        super().__init__(**settings)
        self.schedule = schedule
        mean, std = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (pixel_mean, pixel_std))
        self.cutouts = [torch.cat([(cutout[:3] - mean) / std, cutout[3:]]) for cutout in cutouts]

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {
            "schedule": build_schedule(cfg),
            "cutouts": read_cutouts(cfg.MODEL.OCCLUSION.CUTOUTS),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **block_settings(cfg),
        }

    def occlude(self, rng: np.random.Generator, progress: RunProgress, images: Tensor) -> tuple[Tensor, Tensor, float]:
        share, size = self.schedule(progress), tuple(images.shape[2:])
        layers = torch.stack([placed_cutout(rng, self.cutouts, size, share) for _ in images])
        visible = (layers[:, 3:] < OPAQUE).to(layers.dtype)
        covered = 1 - float(visible.mean())  # on the CPU still
        layers, visible = on_device_of(images, layers), on_device_of(images, visible)
        return torch.lerp(images, layers[:, :3], layers[:, 3:]), visible, covered


def placed_cutout(rng: np.random.Generator, cutouts: list[Tensor], size: tuple[int, int], share: float) -> Tensor:
    """A transparent layer (4, H, W) with one of the cut-outs at a random place, whose opaque pixels cover a share."""
    cutout = cutouts[rng.integers(len(cutouts))]
    down, right = rng.random(2)
    if rng.random() < 0.5:
        cutout = cutout.flip(2)
    wanted = share * size[0] * size[1]
    scale = math.sqrt(wanted / float((cutout[3] >= OPAQUE).sum()))
    largest = 2 * max(size) / min(cutout.shape[1:])  # an object with a hole may show nothing but the hole when it grows
    for _ in range(FITTINGS):
        layer = on_layer(cutout, min(scale, largest), size, down, right)
        covered = float((layer[3] >= OPAQUE).sum())
        if covered >= 0.95 * wanted or scale > largest:
            break
        scale *= min(math.sqrt(wanted / max(covered, 1.0)), GROWTH)
    return layer


def on_layer(cutout: Tensor, scale: float, size: tuple[int, int], down: float, right: float) -> Tensor:
    """The cut-out in another size on a transparent layer.

    Args:
        cutout: (4, h, w).
        scale: of its sides.
        size: of the layer, (H, W).
        down, right: where it lies between the first and the last place at which it fits, or fills the side, in [0, 1].
    """
    height, width = (max(1, round(scale * side)) for side in cutout.shape[1:])
    resized = F.interpolate(cutout[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0]
    top, left = round(down * (size[0] - height)), round(right * (size[1] - width))
    layer = torch.zeros(4, *size)
    seen = resized[:, max(-top, 0) : size[0] - top, max(-left, 0) : size[1] - left]
    top, left = max(top, 0), max(left, 0)
    layer[:, top : top + seen.shape[1], left : left + seen.shape[2]] = seen
    return layer


def read_cutouts(folder: str) -> list[Tensor]:
    """The cut-outs of a folder, without their transparent borders: (4, h, w) each, RGB in [0, 255], alpha in [0, 1].

    Raises:
        InputError: the folder is not named, cannot be read or is empty, or a file has no alpha channel or is empty.
    """
    if not folder:
        raise InputError("CutoutOcclusion needs MODEL.OCCLUSION.CUTOUTS, a folder of images with an alpha channel")
    return [read_cutout(path) for path in image_files(folder)]


def read_cutout(path: str) -> Tensor:
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            has_alpha = "A" in image.getbands() or "transparency" in image.info
            image = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"MODEL.OCCLUSION.CUTOUTS: {os.path.abspath(path)} cannot be read: {error}") from error
    if not has_alpha:
        raise InputError(f"MODEL.OCCLUSION.CUTOUTS: {os.path.abspath(path)} has no alpha channel: cut the object out")
    box = opaque_box(image)
    if box is not None:
        image = image.crop(box)
        image.thumbnail((LARGEST, LARGEST))  # thin lines may vanish
    if box is None or opaque_box(image) is None:
        raise InputError(f"MODEL.OCCLUSION.CUTOUTS: {os.path.abspath(path)} is transparent all over: take it out")
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()
    pixels[3] /= 255
    return pixels


def opaque_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """The smallest box around what counts as occluded; None where nothing does."""
    return image.getchannel("A").point(lambda alpha: 255 * (alpha >= 255 * OPAQUE)).getbbox()
