"""Response maps of queries as pictures, of the image as it is and with the occlusion that training ends with."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from fastreid.data.transforms import build_transforms
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from igoas_plugin.evaluation.activation_maps import activation_maps
from igoas_plugin.fastreid_fixes.images import read_image
from igoas_plugin.occlusion.preview import occluded_batch, sure_block

from .rank_lists import SIZE
from .thumbnails import Thumbnail, thumbnail

COLOURS = "viridis"  # its lightness rises with the response: it reads without colours too
WEIGHT = 0.6  # of the colours before the grey image, in [0, 1]
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
CLEAN, OCCLUDED = "as it is", "occluded"

# Of the names that activation_maps() gives: what stands under a picture, and what the page explains once
CAPTIONS = {
    "backbone": ("Backbone", "the backbone's last feature map"),
    "global": ("Global branch", "the last feature map of the global branch"),
    "suppression, attention before the last stage: in": (
        "Suppression branch, into attention 1",
        "what the trunk hands to the suppression branch",
    ),
    "suppression, attention before the last stage: out": (
        "Suppression branch, out of attention 1",
        "the same behind the attention module before the last stage",
    ),
    "suppression, attention after the last stage: in": (
        "Suppression branch, into attention 2",
        "the last feature map of the suppression branch",
    ),
    "suppression, attention after the last stage: out": (
        "Suppression branch, out of attention 2",
        "the same behind the attention module after it: what is pooled, and what the suppression loss acts on",
    ),
}


class Inside(NamedTuple):
    """The mean response in the region that the occlusion hides, as a share of the range of the colours, in %."""

    clean: float
    occluded: float


class ResponseMap(NamedTuple):
    """One map of one query, twice, in the same colours.

    Args:
        name: of the map, short.
        clean, occluded: pictures; occluded is None where the occlusion block hides nothing of an image.
        low, high: responses at the dark and at the bright end of the colours.
        inside: None without an occlusion.
    """

    name: str
    clean: Thumbnail
    occluded: Thumbnail | None
    low: float
    high: float
    inside: Inside | None


class QueryMaps(NamedTuple):
    """Both inputs of a query, as the model gets them, and the maps that it makes of them."""

    clean: Thumbnail
    occluded: Thumbnail | None
    maps: list[ResponseMap]


def maps_of(cfg, model: nn.Module, paths: Sequence[str], names: Sequence[str]) -> list[QueryMaps]:
    """Response maps of images.

    Args:
        cfg: of the model.
        model: in evaluation mode.
        paths: of the images.
        names: how the page calls them.

    Raises:
        InputError: an image cannot be read.
    """
    transform, found = build_transforms(cfg, is_train=False), []
    for start in range(0, len(paths), cfg.TEST.IMS_PER_BATCH):
        part = slice(start, start + cfg.TEST.IMS_PER_BATCH)
        images = torch.stack([transform(read_image(path)) for path in paths[part]])
        occluded, visible = with_occlusion(cfg, model, images)
        clean_maps = activation_maps(model, images)
        occluded_maps = activation_maps(model, occluded) if occluded is not None else {}
        for index, name in enumerate(names[part]):
            pair = [{key: each[index].numpy() for key, each in maps.items()} for maps in (clean_maps, occluded_maps)]
            hidden = None if occluded is None else 1 - visible[index, 0]
            inputs = [pixels(images[index]), None if occluded is None else pixels(occluded[index])]
            found.append(query_maps(name, inputs, pair, hidden))
    return found


@torch.no_grad()
def with_occlusion(cfg, model: nn.Module, images: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Images in [0, 255] behind the config's occlusion block as in the last epoch, and what is visible of them.

    Returns:
        (None, None) where the block hides nothing of an image.
    """
    mean, std = model.pixel_mean.cpu(), model.pixel_std.cpu()
    occluded, visible, share = occluded_batch(sure_block(cfg), (images - mean) / std, cfg.SOLVER.MAX_EPOCH - 1)
    if not share:
        return None, None
    return occluded * std + mean, visible.float()


def query_maps(
    name: str, inputs: list[np.ndarray | None], maps: list[dict[str, np.ndarray]], hidden: Tensor | None
) -> QueryMaps:
    """The pictures of one query.

    Args:
        name: how the page calls it.
        inputs: RGB, uint8, (H, W, 3): clean and occluded.
        maps: {name: (h, w)} of the clean and of the occluded image.
        hidden: 1 where the occlusion lies, (H, W); None without one.
    """
    shown = []
    for key, clean in maps[0].items():
        occluded, title = maps[1].get(key), CAPTIONS.get(key, (key, ""))[0]
        both = [clean] if occluded is None else [clean, occluded]
        low, high = float(np.min(both)), float(np.max(both))
        pictures = [
            thumbnail(
                overlay(image, each, low, high), f"{title}, {name} {state}: strongest at the {strongest(each)}", SIZE
            )
            for image, each, state in zip(inputs, both, (CLEAN, OCCLUDED), strict=False)
        ]
        known = hidden is not None and bool(hidden.any())
        inside = Inside(*(mean_inside(scaled(each, low, high), hidden) for each in both)) if known else None
        shown.append(ResponseMap(title, pictures[0], pictures[1] if pictures[1:] else None, low, high, inside))
    thumbnails = [
        thumbnail(image, f"{name} {state}, as the model gets it", SIZE) if image is not None else None
        for image, state in zip(inputs, (CLEAN, OCCLUDED), strict=True)
    ]
    return QueryMaps(*thumbnails, shown)


def pixels(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 255] as RGB, uint8, (H, W, 3)."""
    return image.clamp(0, 255).round().byte().permute(1, 2, 0).numpy()


def scaled(response: np.ndarray, low: float, high: float) -> np.ndarray:
    return (response - low) / (high - low) if high > low else np.zeros_like(response)


def overlay(image: np.ndarray, response: np.ndarray, low: float, high: float) -> np.ndarray:
    """A response in colours before the image in grey: RGB, uint8, (H, W, 3).

    Args:
        image: RGB, uint8, (H, W, 3).
        response: (h, w); stretched to the image.
        low, high: responses at the dark and at the bright end of the colours.
    """
    height, width = image.shape[:2]
    values = Image.fromarray(scaled(response, low, high).astype(np.float32))
    smooth = np.asarray(values.resize((width, height), Image.Resampling.BILINEAR))
    colours = matplotlib.colormaps[COLOURS](smooth)[..., :3]
    grey = image.mean(2, keepdims=True) / 255
    return (255 * (WEIGHT * colours + (1 - WEIGHT) * grey)).astype(np.uint8)


def strongest(response: np.ndarray) -> str:
    """Where a response is largest, in words.

    Example:
        >>> strongest(np.array([[0, 0, 0], [0, 0, 0], [0, 0, 5]]))
        'bottom right'
    """
    row, column = np.unravel_index(np.argmax(response), response.shape)
    height, width = response.shape
    return f"{ROWS[3 * row // height]} {COLUMNS[3 * column // width]}"


def mean_inside(response: np.ndarray, hidden: Tensor) -> float:
    """Mean of a response in [0, 1] over what is hidden, in %."""
    share = interpolate(hidden[None, None], response.shape, mode="area")[0, 0].numpy()
    return float(100 * (response * share).sum() / share.sum())
