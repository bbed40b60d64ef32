"""Numbers of a config that a run cannot be made of: refused before anything is written."""

import math

from fastreid.config import CfgNode

from .config import value_of
from .errors import InputError

# The least value of each key
LEAST = {
    "TENSORBOARD.IMAGES_PERIOD": 0,
    "SOLVER.CHECKPOINT_KEEP": 0,
    "SOLVER.NONFINITE_LIMIT": 0,
    "DATALOADER.NUM_WORKERS": 0,
}
LEAST_OF_RERANKING = {"TEST.RERANK.K1": 1, "TEST.RERANK.K2": 1}  # of TEST.RERANK.ENABLED


def check_ranges(cfg: CfgNode) -> None:
    """Raises InputError where a number, or a list of them, is none that the run could use."""
    least = {**LEAST, **LEAST_OF_RERANKING} if cfg.TEST.RERANK.ENABLED else LEAST
    for key, smallest in least.items():
        if value_of(cfg, key) < smallest:
            raise InputError(f"{key} must be {smallest} or more, got {value_of(cfg, key)}")
    if cfg.SEED >= 2**31:
        raise InputError(f"SEED must be -1, or 0 to 2**31 - 1, got {cfg.SEED}")
    if not all(is_whole(epoch) and epoch >= 0 for epoch in cfg.SOLVER.STEPS):
        raise InputError(f"SOLVER.STEPS must be epochs, whole numbers from 0, got {cfg.SOLVER.STEPS}")
    check_images(cfg)


def check_images(cfg: CfgNode) -> None:
    """Raises InputError where sizes of images are none, or the channels cannot be normalised."""
    # a crop gives images of one size; the host then takes one number, the shorter side, or 0 for no resizing
    for key in ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST") if not cfg.INPUT.CROP.ENABLED else ():
        size = value_of(cfg, key)
        if len(size) != 2 or not all(is_whole(pixels) and pixels >= 1 for pixels in size):
            raise InputError(f"{key} must be height and width, two whole numbers from 1, got {size}")
    for key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"):
        values = value_of(cfg, key)
        if len(values) not in (1, 3) or not all(is_finite(value) for value in values):
            raise InputError(f"{key} must be three numbers, one a channel, or one for all, got {values}")
    if min(cfg.MODEL.PIXEL_STD) <= 0:
        raise InputError(f"MODEL.PIXEL_STD must be more than 0, got {cfg.MODEL.PIXEL_STD}")


def is_whole(value) -> bool:
    return type(value) is int


def is_finite(value) -> bool:
    """Whether a value is a number that a float holds."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False
