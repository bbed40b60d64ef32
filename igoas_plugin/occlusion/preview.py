from fastreid.utils.events import EventStorage
from torch import Tensor, nn

from . import build_occlusion


def occluded_batch(occlusion: nn.Module, images: Tensor, epoch: int) -> tuple[Tensor, Tensor, float]:
    """What an occlusion block does to a batch in an epoch of a training.

    An epoch is taken for one iteration: what is drawn is an example, and the same in each call.

    Args:
        occlusion: a block of OCCLUSION_REGISTRY.
        images: normalised, (B, 3, H, W); not modified.
        epoch: counted from 0.

    Returns:
        Occluded images, what is visible of them (B, 1, H, W), and the share of the images that is covered, in [0, 1].
    """
    with EventStorage(epoch) as storage:
        storage.epoch, storage.iters_per_epoch = epoch, 1
        occluded, visible = occlusion(images)
    return occluded, visible, float((1 - visible.float()).mean())


def sure_block(cfg) -> nn.Module:
    """The block of a config, but it occludes every batch and tells what it hides."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.OCCLUSION.PROB, cfg.MODEL.OCCLUSION.MASK = 1.0, "occluded"
    return build_occlusion(cfg)
