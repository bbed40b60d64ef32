"""CutoutOcclusion: objects in front of each image, drawn by the plugin or cut out of photographs by the user."""

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

from .block import OCCLUSION_REGISTRY, OcclusionBlock
from .drawn_occluders import OPAQUE, DrawnOccluders
from .fills import to_device_of
from .schedule import Schedule, build_schedule

LARGEST = 512  # longest side of a cut-out in memory, in pixels
FITTINGS = 8  # largest number of steps that enlarge a cut-out which the border crops
GROWTH = 1.5  # largest factor of the sides in one of these steps


@OCCLUSION_REGISTRY.register()
class CutoutOcclusion(OcclusionBlock):
    """Occlusion block that puts objects in front of each image, which cover more of it as training goes on.

    Without a folder MODEL.OCCLUSION.CUTOUTS, each image gets 1 to MODEL.OCCLUSION.OBJECTS objects that the plugin draws
    (drawn_objects.KINDS) or that are pedestrians of other images of the batch, cut out with a soft mask in the shape of
    a body. They stand as occluders do: on the ground in front, in from a side, seldom from above. The opaque pixels of
    all objects of an image cover the share of the schedule together. The logged share is measured on a grid of points
    on the CPU, and is right to about 1 % of the image.

    With a folder, the objects are its image files with an alpha channel (png, tif), such as bicycles, bins or people
    cut out of photographs. Each image gets one object at a random place. The object is scaled until its opaque pixels
    cover the share of the schedule; the border crops it.

    Source: occluders pasted on images and their exact mask: FED, CVPR 2022. Pedestrians of the same batch pasted: KPR,
    ECCV 2024 (BIPO). Both paste photographs; these drawings are the plugin's own.

    Args:
        schedule: occluded share of the image by progress of the run.
        cutouts: shape (4, h, w) each: RGB in [0, 255] and alpha in [0, 1]; None for drawn objects.
        pixel_mean, pixel_std: of the normalisation, in [0, 255].
        objects: most drawn objects of an image, 1 or more.
        pedestrians: probability that a drawn object is replaced by a pedestrian of the batch, in [0, 1].
        settings: of OcclusionBlock.

    Raises:
        InputError: a value is outside its range.
    """

    @configurable
    def __init__(
        self,
        *,
        schedule: Schedule,
        cutouts: list[Tensor] | None,
        pixel_mean: list[float],
        pixel_std: list[float],
        objects: int = 3,
        pedestrians: float = 0.4,
        **settings,
    ):
        super().__init__(**settings)
        self.schedule = schedule
        if cutouts is None:
            self.drawn = DrawnOccluders(objects, pedestrians, pixel_mean, pixel_std)
            return
        self.drawn = None
        mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (pixel_mean, pixel_std))
        self.cutouts = [torch.cat([(cutout[:3] - mean) / std, cutout[3:]]) for cutout in cutouts]

    @classmethod
    def from_config(cls, cfg) -> dict:
        keys = cfg.MODEL.OCCLUSION
        return {
            "schedule": build_schedule(cfg),
            "cutouts": read_cutouts(keys.CUTOUTS) if keys.CUTOUTS else None,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "objects": keys.OBJECTS,
            "pedestrians": keys.PEDESTRIANS,
            **super().from_config(cfg),
        }

    def occlude(self, rng: np.random.Generator, progress: RunProgress, images: Tensor) -> tuple[Tensor, Tensor, float]:
        share, size = self.schedule(progress), tuple(images.shape[2:])
        if self.drawn is not None:
            return self.drawn(rng, images, share)
        layers = torch.stack([draw_layer(rng, self.cutouts, size, share) for _ in images])
        visible = (layers[:, 3:] < OPAQUE).to(layers.dtype)
        covered = 1 - float(visible.mean())  # still on the CPU
        layers, visible = to_device_of(images, layers), to_device_of(images, visible)
        return torch.lerp(images, layers[:, :3], layers[:, 3:]), visible, covered


def draw_layer(rng: np.random.Generator, cutouts: list[Tensor], size: tuple[int, int], share: float) -> Tensor:
    """Draws a transparent layer (4, H, W) with a cut-out at a random place whose opaque pixels cover a share of it."""
    cutout = cutouts[rng.integers(len(cutouts))]
    down, right = rng.random(2)
    if rng.random() < 0.5:
        cutout = cutout.flip(2)
    wanted = share * size[0] * size[1]
    scale = math.sqrt(wanted / float((cutout[3] >= OPAQUE).sum()))
    largest = 2 * max(size) / min(cutout.shape[1:])  # a large object with a hole can show nothing but the hole
    for _ in range(FITTINGS):
        layer = place_on_layer(cutout, min(scale, largest), size, down, right)
        covered = float((layer[3] >= OPAQUE).sum())
        if covered >= 0.95 * wanted or scale > largest:
            break
        scale *= min(math.sqrt(wanted / max(covered, 1.0)), GROWTH)
    return layer


def place_on_layer(cutout: Tensor, scale: float, size: tuple[int, int], down: float, right: float) -> Tensor:
    """Returns a transparent layer with the resized cut-out on it.

    Args:
        cutout: shape (4, h, w).
        scale: factor of its sides.
        size: (H, W) of the layer.
        down, right: position in [0, 1], from the first place at which the cut-out fits, or fills the side, to the last.
    """
    height, width = (max(1, round(scale * side)) for side in cutout.shape[1:])
    resized = F.interpolate(cutout[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0]
    top, left = round(down * (size[0] - height)), round(right * (size[1] - width))
    inside = resized[:, max(-top, 0) : size[0] - top, max(-left, 0) : size[1] - left]
    top, left = max(top, 0), max(left, 0)
    layer = torch.zeros(4, *size)
    layer[:, top : top + inside.shape[1], left : left + inside.shape[2]] = inside
    return layer


def read_cutouts(folder: str) -> list[Tensor]:
    """Reads the cut-outs of a folder, each without its transparent border.

    Returns:
        Tensors of shape (4, h, w): RGB in [0, 255] and alpha in [0, 1].

    Raises:
        InputError: the folder cannot be read or holds no image, or a file has no alpha channel or no opaque pixel.
    """
    return [read_cutout(path) for path in image_files(folder)]


def read_cutout(path: str) -> Tensor:
    """Reads one cut-out: see read_cutouts()."""
    where = f"MODEL.OCCLUSION.CUTOUTS: {os.path.abspath(path)}"
    try:
        with Image.open(path) as image:
            has_alpha = "A" in image.getbands() or "transparency" in image.info
            image = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{where} cannot be read: {error}") from error
    if not has_alpha:
        raise InputError(f"{where} has no alpha channel: cut the object out")
    image = image.crop(opaque_box(image))
    image.thumbnail((LARGEST, LARGEST))
    if opaque_box(image) is None:  # thin lines of a large image can vanish in the thumbnail
        raise InputError(f"{where} has no opaque pixels: remove it from the folder")
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()
    pixels[3] /= 255
    return pixels


def opaque_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Returns the smallest box around the opaque pixels, or None without opaque pixels."""
    return image.getchannel("A").point(lambda alpha: 255 * (alpha >= 255 * OPAQUE)).getbbox()
