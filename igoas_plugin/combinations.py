"""Settings that are valid each, but make no sense together: refused, with the reason."""

from collections.abc import Callable
from typing import NamedTuple

from fastreid.config import CfgNode

from .errors import InputError

PAIR_LOSSES = ("TripletLoss", "CircleLoss", "Cosface")
IDENTITY_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")


class Combination(NamedTuple):
    """One that makes no sense.

    Args:
        title: what goes with what, for the documentation.
        is_in: whether a config has it.
        reason: why, and what to do instead; the end of a message.
    """

    title: str
    is_in: Callable[[CfgNode], bool]
    reason: str


def pair_losses(cfg: CfgNode) -> list[str]:
    return [name for name in cfg.MODEL.LOSSES.NAME if name in PAIR_LOSSES]


def on_both_stages(cfg: CfgNode) -> bool:
    keys = cfg.MODEL.IGOAS.MASK_LOSS
    return keys.STAGES == "both" and keys.SCALE > 0 and len(keys.BRANCHES) > 0


def occludes_images(cfg: CfgNode) -> bool:
    keys = cfg.MODEL.OCCLUSION
    return keys.MASK == "occluded" and keys.PROB > 0 and keys.NAME not in ("NoOcclusion", "BatchDropBlock")


COMBINATIONS = (
    Combination(
        "a loss of pairs with batches that are drawn without regard to identities",
        lambda cfg: bool(pair_losses(cfg)) and cfg.DATALOADER.SAMPLER_TRAIN not in IDENTITY_SAMPLERS,
        "MODEL.LOSSES.NAME compares images of one identity, and DATALOADER.SAMPLER_TRAIN puts hardly any into a batch: "
        "take NaiveIdentitySampler or BalancedIdentitySampler, or CrossEntropyLoss alone",
    ),
    Combination(
        "a loss of pairs with one image of each identity",
        lambda cfg: (
            bool(pair_losses(cfg))
            and cfg.DATALOADER.SAMPLER_TRAIN in IDENTITY_SAMPLERS
            and cfg.DATALOADER.NUM_INSTANCE < 2
        ),
        "MODEL.LOSSES.NAME compares images of one identity: DATALOADER.NUM_INSTANCE must be 2 or more",
    ),
    Combination(
        "a softmax of cosines without a scale",
        lambda cfg: cfg.MODEL.HEADS.CLS_LAYER != "Linear" and cfg.MODEL.HEADS.SCALE <= 1,
        "MODEL.HEADS.CLS_LAYER gives cosines, between -1 and 1, and their softmax cannot tell identities apart: set "
        "MODEL.HEADS.SCALE, as a rule to 16 to 64",
    ),
    Combination(
        "the suppression loss on both stages without occluded images",
        lambda cfg: cfg.MODEL.META_ARCHITECTURE == "IGOAS" and on_both_stages(cfg) and not occludes_images(cfg),
        "MODEL.IGOAS.MASK_LOSS.STAGES both needs images that are occluded and a mask that tells where: take STAGES "
        "last, or MODEL.OCCLUSION.MASK occluded and a MODEL.OCCLUSION.NAME that occludes images",
    ),
)


def refuse_combinations(cfg: CfgNode) -> None:
    """Raises InputError where a config has one of COMBINATIONS."""
    for each in COMBINATIONS:
        if each.is_in(cfg):
            raise InputError(f"{each.title} makes no sense: {each.reason}")
