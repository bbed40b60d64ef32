"""Drawn objects and other pedestrians of the batch in front of images, on the device of the images."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.preprocessing import stored_as

from .drawn_objects import CELL, KINDS, draw_atlas, draw_bodies
from .fills import to_device_of
from .object_placement import Placement, draw_placement

OPAQUE = 0.5  # alpha from which a pixel counts as occluded
MEASURED = 64  # side of the pictures on which the CPU measures the covered share
TEXTURED, BLURRED = 0.25, 0.3  # probabilities of an object
LARGEST_BLUR = 0.025  # half width of the filter, as a part of the object's sides


class DrawnOccluders:
    """Puts drawn objects and other pedestrians of the batch in front of images.

    Each image gets 1 to `objects` of them. One scale for all objects of an image is searched, such that their opaque
    pixels together cover the wanted share. Small copies of the alpha channels on the CPU give the covered share, so
    that no tensor of a GPU is read. A single object with holes, such as a bicycle, can fall short of shares above 0.4.

    Args:
        objects: most objects of an image, 1 or more.
        pedestrians: probability that an object is a pedestrian of another image of the batch, in [0, 1]. The pedestrian
            is cut out with a soft mask in the shape of a body.
        pixel_mean, pixel_std: of the normalisation, in [0, 255].
        names: of drawn_objects.KINDS.

    Raises:
        InputError: a value is outside its range.
    """

    def __init__(
        self,
        objects: int,
        pedestrians: float,
        pixel_mean: list[float],
        pixel_std: list[float],
        names: tuple[str, ...] = tuple(KINDS),
    ):
        if objects < 1:
            raise InputError(f"MODEL.OCCLUSION.OBJECTS must be 1 or more, got {objects}")
        if not 0 <= pedestrians <= 1:
            raise InputError(f"MODEL.OCCLUSION.PEDESTRIANS must be in [0, 1], got {pedestrians}")
        self.objects, self.pedestrians = objects, pedestrians
        mean, std = np.asarray(pixel_mean), np.asarray(pixel_std)
        self.normalisation = np.stack([255 / std, mean / std])
        drawn, bodies = draw_atlas(names), draw_bodies()
        self.cells = torch.cat([drawn.cells, bodies.cells])
        self.table = np.concatenate([drawn.table, bodies.table])
        self.chances = drawn.table["weight"] / drawn.table["weight"].sum()
        self.opaque = (reduced(self.cells[:, 3:], MEASURED)[:, 0] >= OPAQUE).numpy()
        self.on_device: dict[tuple, Tensor] = {}  # not a buffer: neither saved nor sent to other processes

    def __call__(self, rng: np.random.Generator, images: Tensor, share: float) -> tuple[Tensor, Tensor, float]:
        """Returns occluded images, their mask (1 kept, 0 occluded) and the covered share, measured on a grid.

        Args:
            rng: the only source of randomness.
            images: normalised, (B, 3, H, W); not modified.
            share: of each image that opaque pixels should cover, in (0, 1).
        """
        people = rng.random((len(images), self.objects)) < self.pedestrians
        drawn = rng.choice(len(self.chances), people.shape, p=self.chances)
        bodies = rng.integers(len(self.chances), len(self.table), people.shape)
        placement = draw_placement(rng, self.table, self.opaque, np.where(people, bodies, drawn))
        scale, covered = placement.scale_for(share)
        values = self.draw_values(rng, placement, scale)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            count, _, height, width = images.shape
            canvas = torch.zeros(count, height, 4, width, device=images.device)  # colours times alpha, and alpha
            canvas[:, :, :3] = images.transpose(1, 2)
            for person, layers_of in ((False, self.draw), (True, self.cut_out)):
                # the images in which the first object is of this sort, then those in which the second is, and so on
                groups = [np.flatnonzero(each) for each in (placement.present & (people == person)).T]
                chosen = np.concatenate([values[rows, number] for number, rows in enumerate(groups)])
                if len(chosen):
                    chosen, sizes = to_device_of(images, chosen, torch.float32), [len(rows) for rows in groups]
                    layers = layers_of(images, chosen).split(sizes)
                    for index, layer in zip(chosen[:, 0].long().split(sizes), layers, strict=True):
                        below = canvas.index_select(0, index)
                        canvas.index_copy_(0, index, torch.addcmul(layer, below, 1 - layer[:, :, 3:]))
            canvas = canvas.transpose(1, 2)
            occluded = canvas[:, :3].to(images.dtype, memory_format=torch.contiguous_format, copy=True)
            visible = (canvas[:, 3:] < OPAQUE).to(images.dtype)
        return stored_as(images, occluded), visible, float(covered.mean())

    def draw_values(self, rng: np.random.Generator, placement: Placement, scale: np.ndarray) -> np.ndarray:
        """Returns the numbers of each object: images, picture, blur, box, texture and colour, shape (B, K, 22)."""
        count, most = shape = placement.picture.shape
        image = np.broadcast_to(np.arange(count)[:, None], shape)
        donor = (image + rng.integers(1, max(count, 2), shape)) % count
        blur = np.where(rng.random(shape) < BLURRED, rng.uniform(0, LARGEST_BLUR, shape), 0)
        natural = self.table["natural"][placement.picture][..., None] > 0
        hue = np.where(natural, np.arange(3), rng.permuted(np.tile(np.arange(3), (*shape, 1)), axis=2))
        light = rng.uniform(0.5, 1.25, (*shape, 1)) * rng.uniform(0.9, 1.1, (*shape, 3))
        colour = np.eye(3)[hue] * light[..., None]
        depth = np.where((rng.random(shape) < TEXTURED) & ~natural[..., 0], rng.uniform(0.25, 0.6, shape), 0)
        waves = rng.uniform(10, 50, (2, *shape)) * (rng.random((2, *shape)) < 0.7)  # 0: stripes, not checks
        phases = np.where(waves > 0, rng.uniform(0, 2 * np.pi, waves.shape), np.pi / 2)
        numbers = [image, donor, placement.picture, blur, *placement.boxes(scale), depth, *waves, *phases]
        return np.concatenate([np.stack(numbers, -1), colour.reshape(*shape, 9)], -1)

    def draw(self, images: Tensor, values: Tensor) -> Tensor:
        """Returns normalised colours times alpha, and alpha, of a drawn object for each row of values: (n, H, 4, W)."""
        _, _, picture, blur, *box, depth, wave_y, wave_x, phase_y, phase_x = values[:, :13].unbind(1)
        cells = self.cells_for(images).index_select(0, picture.long())
        side = torch.linspace(0, 1, cells.shape[3], device=cells.device)
        down = torch.sin(wave_y[:, None] * side + phase_y[:, None])[:, :, None]
        right = torch.sin(wave_x[:, None] * side + phase_x[:, None])[:, None]
        texture = 1 - depth[:, None, None] * (down * right > 0)
        colours = (values[:, 13:].view(-1, 1, 3, 3) @ cells[:, :, :3]) * texture[:, :, None]
        colours = torch.minimum(colours, cells[:, :, 3:])
        factor, offset = to_device_of(images, self.normalisation, torch.float32)[..., None]
        cells[:, :, :3] = torch.addcmul(colours * factor, cells[:, :, 3:], offset, value=-1)
        return resample(cells, box, images.shape[2:], blur)

    def cut_out(self, images: Tensor, values: Tensor) -> Tensor:
        """Returns colours times alpha, and alpha, of a pedestrian for each row of values: (n, H, 4, W)."""
        _, donor, picture, blur, *box = values[:, :8].unbind(1)
        bodies = self.cells_for(images).index_select(0, picture.long())[:, :, 3:]
        alpha = resample(bodies, box, images.shape[2:], torch.zeros_like(blur))
        donors = images.index_select(0, donor.long()).float().transpose(1, 2)
        return torch.cat([resample(donors, box, images.shape[2:], blur) * alpha, alpha], 2)

    def cells_for(self, images: Tensor) -> Tensor:
        """Returns the pictures in [0, 1] on the device of the images, as large as these are wide: (N, h, 4, w)."""
        side = CELL // max(1, CELL // max(images.shape[3], MEASURED // 2))
        if (key := (images.device, side)) not in self.on_device:
            self.on_device[key] = reduced(self.cells, side).transpose(1, 2).contiguous().to(images.device)
        return self.on_device[key]


def reduced(cells: Tensor, side: int) -> Tensor:
    """Returns pictures of a smaller side, by the mean of their pixels: (N, C, CELL, CELL) -> (N, C, h, h) in [0, 1]."""
    return F.adaptive_avg_pool2d(cells.float() / 255, side)


def resample(pictures: Tensor, box: list[Tensor], size: tuple[int, int], blur: Tensor) -> Tensor:
    """Scales each picture into its box of an image without aliasing, by two products with filters.

    The channels lie between rows and columns, so that neither product needs a copy.

    Args:
        pictures: (n, h, C, w).
        box: top, left, height, width, each (n,), as parts of the image's sides; a negative width mirrors.
        size: (H, W) of the image.
        blur: additional half width of the filters, as a part of the sides of the picture, (n,).

    Returns:
        (n, H, C, W), continued by the pixels of the border for less than a pixel; zeros further outside.
    """
    top, left, height, width = box
    count, rows, channels, columns = pictures.shape
    across = pictures.reshape(count, -1, columns) @ filters(left, width, columns, size[1], blur).transpose(1, 2)
    down = filters(top, height, rows, size[0], blur) @ across.view(count, rows, -1)
    return down.view(count, size[0], channels, size[1])


def filters(start: Tensor, length: Tensor, pixels: int, points: int, blur: Tensor) -> Tensor:
    """Returns triangle filters that read a row of pixels at points of an image, shape (n, points, pixels)."""
    half_width = (pixels / (points * length.abs())).clamp(min=1) + blur * pixels
    point = (torch.arange(points, device=start.device) + 0.5) / points
    place = (point - start[:, None]) / length[:, None] * pixels - 0.5
    distance = (place[..., None] - torch.arange(pixels, device=start.device)).abs()
    weights = (1 - distance / half_width[:, None, None]).clamp(min=0)
    return weights / weights.sum(2, keepdim=True).clamp(min=1e-6)
