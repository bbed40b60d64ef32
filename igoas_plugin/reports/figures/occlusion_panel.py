"""Figure of what the occlusion block does to a batch, epoch by epoch."""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.reading import read_training
from igoas_plugin.occlusion import build_occlusion
from igoas_plugin.occlusion.preview import occluded_batch

from .figure_file import show_image
from .pixel_images import PixelScale, drawn, read_images, to_show

SHOWN = 7  # epochs whose images are shown, at most


def occlusion_picture(cfg, count: int, seed: int) -> Figure:
    """Draws what the block of a config does to images of its training set.

    Args:
        cfg: config of the run. MODEL.WEIGHTS is not read.

    Raises:
        InputError: the training set is missing or has no images, an image cannot be read, or a key of
            MODEL.OCCLUSION or SOLVER.MAX_EPOCH is out of range.
    """
    if cfg.SOLVER.MAX_EPOCH < 1:
        raise InputError(f"SOLVER.MAX_EPOCH must be 1 or more, got {cfg.SOLVER.MAX_EPOCH}")
    title = title_of(cfg)  # builds the block, which checks its keys
    items = read_training(cfg.DATASETS.NAMES)
    if not items:
        raise InputError(
            f"DATASETS.NAMES {', '.join(cfg.DATASETS.NAMES) or 'is empty'}: no training images to occlude; name a "
            "training set, such as ToyOccluded, which is drawn"
        )
    paths = [path for path, *_ in drawn(items, count, seed)]
    images = read_images(cfg, paths, cfg.INPUT.SIZE_TRAIN)
    return draw_occlusion(to_show(images), *occluded_by_epoch(cfg, images), title)


def title_of(cfg) -> str:
    keys = cfg.MODEL.OCCLUSION
    chances = {"occluded": keys.PROB, "cut off": keys.TRUNCATION}
    uncertain = [f"{name} with probability {chance:g}" for name, chance in chances.items() if 0 < chance < 1]
    title = ", ".join([keys.NAME, f"{cfg.SOLVER.MAX_EPOCH} epochs", *uncertain, *cfg.DATASETS.NAMES])
    if hasattr(build_occlusion(cfg), "drop"):
        title += (
            "\nThis block hides a part of the suppression branch's last feature map, and nothing of the images:\n"
            "the figure hides the same part of the images"
        )
    return title


def occluded_by_epoch(cfg, images: Tensor) -> tuple[list[float], dict[int, np.ndarray]]:
    """Occludes a batch as in each epoch of a run.

    A block that drops a part of the feature map (method ``drop``) drops it from the images instead.

    Args:
        images: (B, 3, H, W) in [0, 255].

    Returns:
        The covered share of each epoch, in [0, 1]; and the occluded images of up to SHOWN evenly spread epochs,
        {epoch from 0: (B, H, W, 3), uint8}.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.OCCLUSION.MASK = "occluded"  # "ones" would hide the share
    block, scale = build_occlusion(cfg), PixelScale(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    occlude, normalised = getattr(block, "drop", block), scale.normalised(images)
    wanted = set(np.linspace(0, cfg.SOLVER.MAX_EPOCH - 1, SHOWN).round().astype(int).tolist())
    shares, shown = [], {}
    for epoch in range(cfg.SOLVER.MAX_EPOCH):
        occluded, _, share = occluded_batch(occlude, normalised, epoch)
        shares.append(share)
        if epoch in wanted:
            shown[epoch] = to_show(scale.pixels(occluded))
    return shares, shown


def draw_occlusion(clean: np.ndarray, shares: list[float], shown: dict[int, np.ndarray], title: str) -> Figure:
    """Draws a row for each image and a column for each epoch, and the covered share by epoch below.

    The figure counts epochs from 1.

    Args:
        clean: (B, H, W, 3), uint8.
        shares: covered share of each epoch, in [0, 1].
        shown: {epoch from 0: its occluded images}, of the same shape as `clean`.
    """
    count, height, width, _ = clean.shape
    cell = 1.1, 1.1 * height / width  # inches
    size = max((len(shown) + 1) * cell[0] + 0.6, 5.5), count * cell[1] + 3.0
    figure = Figure(figsize=size, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(size[1] - 2.2, 2.2))
    figure.suptitle(title, fontsize="medium")
    headings = ["clean", *(f"epoch {epoch + 1}\n{100 * shares[epoch]:.1f} %" for epoch in shown)]
    panels = above.subplots(count, len(headings), squeeze=False)
    for column, images, heading in zip(panels.T, [clean, *shown.values()], headings, strict=True):
        for panel, image in zip(column, images, strict=True):
            show_image(panel, image)
        column[0].set_title(heading, fontsize="small")
    curve, percent = below.subplots(), [100 * share for share in shares]
    curve.plot(range(1, len(percent) + 1), percent, "-", color="C0")
    curve.plot([epoch + 1 for epoch in shown], [percent[epoch] for epoch in shown], "o", color="C0", clip_on=False)
    curve.set(xlabel="epoch", ylabel="covered (%)", xlim=(0.5, len(shares) + 0.5), ylim=(0, None))
    curve.xaxis.get_major_locator().set_params(integer=True)
    curve.grid(alpha=0.3)
    return figure
