"""Examples of an occlusion block outside a training."""

from fastreid.utils.events import EventStorage
from torch import Tensor, nn

from .block import build_occlusion, occlude


def occluded_batch(occlusion: nn.Module, images: Tensor, epoch: int) -> tuple[Tensor, Tensor, float]:
    """Occludes a batch as a training does in an epoch.

    Each epoch counts as one iteration, so that every call draws the same example.

    Args:
        occlusion: a block of OCCLUSION_REGISTRY.
        images: normalised, (B, 3, H, W); not modified.
        epoch: zero-based.

    Returns:
        Occluded images, their mask (B, 1, H, W) with 1 kept and 0 occluded, and the occluded share, in [0, 1].
    """
    with EventStorage(epoch) as storage:
        storage.epoch, storage.iters_per_epoch = epoch, 1
        occluded, visible = occlude(occlusion, images)
    return occluded, visible, float((1 - visible.float()).mean())


def sure_block(cfg) -> nn.Module:
    """Builds the block of a config so that it occludes every batch and its mask shows the occlusion."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.OCCLUSION.PROB, cfg.MODEL.OCCLUSION.MASK = 1.0, "occluded"
    return build_occlusion(cfg)
