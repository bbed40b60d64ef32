"""Responses of a model to clean and occluded images, before and after suppression (Fig. 8 and 9 of the paper)."""

import textwrap
from collections.abc import Sequence

import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.reading import open_data, read_split
from igoas_plugin.evaluation.activation_maps import activation_maps
from igoas_plugin.inference.trained import build_trained
from igoas_plugin.occlusion.preview import occluded_batch, sure_block

from .figure_file import as_label, show_image
from .pixel_images import PixelScale, drawn, first_test_set, read_images, to_show

COLOURS = "inferno"
OUTLINE = "#00e5ff"


def responses_picture(cfg, paths: Sequence[str], count: int, seed: int, epoch: int | None) -> Figure:
    """Responses of a trained model.

    Args:
        cfg: of the model, checked by check_trained().
        paths: of images; empty: gallery images of the first of DATASETS.TESTS, which as a rule show whole persons.
        count: images of the gallery.
        seed: of their choice.
        epoch: of the training, counted from 0, as in which the occlusion is; None: the last one.

    Raises:
        InputError: there is no such epoch, the block occludes no images, an image or the data set is missing, or the
            weights do not fit.
    """
    last = cfg.SOLVER.MAX_EPOCH - 1
    epoch = last if epoch is None else epoch
    if not 0 <= epoch <= last:
        raise InputError(f"--epoch {epoch}: the epochs of this config are 0 to {last} (SOLVER.MAX_EPOCH)")
    block = sure_block(cfg)
    if not paths:
        name = first_test_set(cfg)
        paths = [path for path, *_ in drawn(read_split(name, open_data(name), "gallery"), count, seed)]
    scale, clean = PixelScale(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD), read_images(cfg, paths, cfg.INPUT.SIZE_TEST)
    occluded, visible, share = occluded_batch(block, scale.normalised(clean), epoch)
    if share == 0:
        raise InputError(
            f"MODEL.OCCLUSION.NAME {cfg.MODEL.OCCLUSION.NAME} covers nothing of an image: choose another block for "
            "this picture, such as MODEL.OCCLUSION.NAME IncrementalErasing"
        )
    title = (
        f"{as_label(cfg.MODEL.WEIGHTS)}: channel means of feature maps; {cfg.MODEL.OCCLUSION.NAME} as in epoch {epoch} "
        f"({100 * share:.1f} % covered, outlined)"
    )
    return responses_of(build_trained(cfg), clean, scale.pixels(occluded), visible, title)


def responses_of(model: nn.Module, clean: Tensor, occluded: Tensor, visible: Tensor, title: str) -> Figure:
    """Lets a model respond to clean and occluded images, and draws that.

    Args:
        model: in evaluation mode.
        clean, occluded: (B, 3, H, W) in [0, 255].
        visible: 1 on kept pixels, 0 on occluded ones, (B, 1, H, W).
        title: of the figure.
    """
    maps = tuple(activation_maps(model, images) for images in (clean, occluded))
    return draw_responses((clean, occluded), maps, visible, title)


def draw_responses(
    images: tuple[Tensor, Tensor], maps: tuple[dict[str, Tensor], dict[str, Tensor]], visible: Tensor, title: str
) -> Figure:
    """Two rows an image, clean and occluded; the image and a column a map, over the image in grey.

    The colours of a map mean the same in both rows of an image: they go from the least to the largest value of the two,
    which stand below.

    Args:
        images: clean and occluded, (B, 3, H, W) in [0, 255].
        maps: {name: (B, h, w)} of the clean and of the occluded images.
        visible: 1 on kept pixels, 0 on occluded ones, (B, 1, H, W).
        title: of the figure.
    """
    names, (count, _, height, width) = list(maps[0]), images[0].shape
    cell = 1.5, 1.5 * height / width  # inches
    columns = 1 + len(names)
    figure = Figure(
        figsize=(max(columns * cell[0] + 0.5, 4.5), 2 * count * (cell[1] + 0.15) + 1.1), layout="constrained"
    )
    figure.suptitle("\n".join(textwrap.wrap(title, int(14 * figure.get_figwidth()))), fontsize="small")
    panels = figure.subplots(2 * count, columns, squeeze=False)
    for panel, name in zip(panels[0], ["image", *names], strict=True):
        panel.set_title("\n".join(textwrap.wrap(name.replace(": ", ":\n"), 20)), fontsize="small")
    shown = [to_show(each) for each in images]
    for index in range(count):
        covered = 1 - visible[index, 0].float().cpu()
        for state, kind in enumerate(("clean", "occluded")):
            row = panels[2 * index + state]
            show_image(row[0], shown[state][index])
            row[0].set_ylabel(kind, fontsize="small")
            for panel, name in zip(row[1:], names, strict=True):
                show_image(panel, shown[state][index].mean(-1))
                low, high = show_map(panel, [each[name][index] for each in maps], state, (height, width))
                if kind == "occluded":
                    panel.set_xlabel(f"{low:.2g} to {high:.2g}", fontsize="x-small")
            for panel in row:
                outline(panel, covered)
    return figure


def show_map(panel: Axes, pair: list[Tensor], state: int, size: tuple[int, int]) -> tuple[float, float]:
    """Lays one of two maps, (h, w) each, over a panel in the colours of both; returns their range."""
    low, high = (float(bound) for bound in (min(each.min() for each in pair), max(each.max() for each in pair)))
    large = F.interpolate(pair[state][None, None].float(), size, mode="bilinear", align_corners=False)[0, 0]
    panel.imshow(large.numpy(), cmap=COLOURS, vmin=low, vmax=high, alpha=0.65)
    return low, high


def outline(panel: Axes, covered: Tensor) -> None:
    """Draws where a mask, (H, W), 1 on occluded pixels, has its border."""
    if 0 < covered.mean() < 1:
        # a border of zeros closes the line along the edges of the image
        ring = F.pad(covered, (1, 1, 1, 1)).numpy()
        height, width = ring.shape
        panel.autoscale(False)
        panel.contour(range(-1, width - 1), range(-1, height - 1), ring, levels=[0.5], colors=OUTLINE, linewidths=1)
