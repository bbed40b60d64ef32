"""Figure of activation maps for clean and occluded images, before and after suppression (Fig. 8 and 9 of the paper)."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor, nn

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.reading import open_data, read_split
from igoas_plugin.evaluation.activation_maps import activation_maps
from igoas_plugin.inference.trained import build_trained
from igoas_plugin.occlusion.preview import occluded_batch, sure_block

from .figure_file import as_label, show_image
from .pixel_images import PixelScale, drawn, first_test_set, read_images, to_show

COLOURS = "inferno"  # colour map of activation maps in every picture and page
OUTLINE = "#00e5ff"
OPACITY = 0.65  # of a map over its image


class ImagePair(NamedTuple):
    """Images without and with the occlusion of a config.

    Args:
        clean: (B, 3, H, W) in [0, 255].
        occluded: the same images behind the occlusion; None if the block hides nothing of an image.
        visible: 1 on kept pixels, 0 on occluded ones, (B, 1, H, W).
    """

    clean: Tensor
    occluded: Tensor | None
    visible: Tensor


def activations_picture(cfg, paths: Sequence[str], count: int, seed: int, epoch: int | None) -> Figure:
    """Draws activation maps of a trained model.

    Args:
        cfg: config of the model, checked by check_trained().
        paths: paths of images. If empty, gallery images of the first of DATASETS.TESTS are drawn at random: most of
            them show whole persons.
        epoch: epoch of the training, counted from 1, whose occlusion is applied; None: the last one.

    Raises:
        InputError: there is no such epoch, an image or the data set is missing, or the weights do not fit.
    """
    last = cfg.SOLVER.MAX_EPOCH
    epoch = last if epoch is None else epoch
    if not 1 <= epoch <= last:
        raise InputError(f"--epoch {epoch}: the epochs of this config are 1 to {last} (SOLVER.MAX_EPOCH)")
    if not paths:
        name = first_test_set(cfg)
        paths = [path for path, *_ in drawn(read_split(name, open_data(name), "gallery"), count, seed)]
    images = read_pair(cfg, paths, epoch - 1)
    title = (
        f"{as_label(cfg.MODEL.WEIGHTS)}: channel means of feature maps\n{cfg.MODEL.OCCLUSION.NAME} as in epoch {epoch} "
        f"({100 * (1 - images.visible.mean()):.1f} % covered, outlined)"
    )
    return draw_activations(build_trained(cfg), images, title)


@torch.no_grad()
def read_pair(cfg, paths: Sequence[str], epoch: int) -> ImagePair:
    """Reads images as an evaluation does, and occludes them as in an epoch, counted from 0, of a training.

    Raises:
        InputError: an image cannot be read.
    """
    scale, clean = PixelScale(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD), read_images(cfg, paths, cfg.INPUT.SIZE_TEST)
    occluded, visible, share = occluded_batch(sure_block(cfg), scale.normalised(clean), epoch)
    return ImagePair(clean, scale.pixels(occluded) if share else None, visible.float().cpu())


def draw_activations(model: nn.Module, images: ImagePair, title: str) -> Figure:
    """Runs a model on clean and occluded images, and draws its activation maps."""
    inputs = {"clean": images.clean} | ({} if images.occluded is None else {"occluded": images.occluded})
    maps = {kind: activation_maps(model, each) for kind, each in inputs.items()}
    return draw_maps(inputs, maps, images.visible, title)


def draw_maps(inputs: dict[str, Tensor], maps: dict[str, dict[str, Tensor]], visible: Tensor, title: str) -> Figure:
    """Draws a row for each image and kind of input; each map has a column and lies over the image in grey.

    The colours of a map mean the same in the clean and the occluded row of an image: they go from the lowest to the
    highest value in both rows, which is written below. "Inside" is the mean of a map in the occluded region, as a share
    of that range.

    Args:
        inputs: {"clean" or "occluded": (B, 3, H, W) in [0, 255]}.
        maps: {"clean" or "occluded": {name of a map: (B, h, w)}}.
        visible: 1 on kept pixels, 0 on occluded ones, (B, 1, H, W).
    """
    names, (count, _, height, width) = list(maps["clean"]), inputs["clean"].shape
    cell, kinds = (1.5, 1.5 * height / width), list(inputs)  # inches
    columns = 1 + len(names)
    size = max(columns * cell[0] + 0.5, 4.5), len(kinds) * count * (cell[1] + 0.25) + 1.0
    figure = Figure(figsize=size, layout="constrained")
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, int(14 * size[0]))]
    figure.suptitle("\n".join(lines), fontsize="small")
    panels = figure.subplots(len(kinds) * count, columns, squeeze=False)
    for panel, name in zip(panels[0], ["image", *names], strict=True):
        panel.set_title("\n".join(textwrap.wrap(name.replace(": ", ":\n"), 20)), fontsize="small")
    for row, (index, kind) in zip(panels, ((index, kind) for index in range(count) for kind in kinds), strict=True):
        image, covered = to_show(inputs[kind][index : index + 1])[0], 1 - visible[index, 0]
        show_image(row[0], image)
        row[0].set_ylabel(kind, fontsize="small")
        for panel, name in zip(row[1:], names, strict=True):
            show_image(panel, image.mean(-1))
            values = torch.stack([each[name][index].float() for each in maps.values()])
            show_map(panel, maps[kind][name][index].float(), (float(values.min()), float(values.max())), covered)
        for panel in row:
            outline(panel, covered)
    colours = ScalarMappable(Normalize(0, 1), COLOURS)
    bar = figure.colorbar(colours, ax=panels, location="bottom", aspect=40, pad=0.02, ticks=[0, 1], alpha=OPACITY)
    for label, side in zip(
        bar.ax.set_xticklabels(["lowest value", "highest value"], fontsize="x-small"), ("left", "right"), strict=True
    ):
        label.set_horizontalalignment(side)
    return figure


def show_map(panel: Axes, values: Tensor, limits: tuple[float, float], covered: Tensor) -> None:
    """Draws a map over the image of a panel, and writes its range and its mean inside the occlusion below.

    Args:
        values: the map, (h, w).
        limits: values of the darkest and the brightest colour.
        covered: 1 on occluded pixels, (H, W).
    """
    large = F.interpolate(values[None, None], covered.shape, mode="bilinear", align_corners=False)[0, 0]
    panel.imshow(large.numpy(), cmap=COLOURS, vmin=limits[0], vmax=limits[1], alpha=OPACITY)
    text = f"{limits[0]:.2g} to {limits[1]:.2g}"
    if covered.any() and limits[1] > limits[0]:
        share = F.interpolate(covered[None, None], values.shape, mode="area")[0, 0]
        inside = ((values * share).sum() / share.sum() - limits[0]) / (limits[1] - limits[0])
        text += f"; inside {100 * inside:.0f} %"
    panel.set_xlabel(text, fontsize="x-small")


def outline(panel: Axes, covered: Tensor) -> None:
    """Draws the border of a mask, (H, W), 1 on occluded pixels."""
    if 0 < covered.mean() < 1:
        ring = F.pad(covered, (1, 1, 1, 1)).numpy()  # a border of zeros closes the line along the edges of the image
        height, width = ring.shape
        panel.autoscale(False)
        panel.contour(range(-1, width - 1), range(-1, height - 1), ring, levels=[0.5], colors=OUTLINE, linewidths=1)
