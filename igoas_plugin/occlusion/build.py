from fastreid.utils.registry import Registry
from torch import nn

OCCLUSION_REGISTRY = Registry("OCCLUSION")
OCCLUSION_REGISTRY.__doc__ = """
Occlusion blocks: called with the config, they return an nn.Module that is called as

    occluded, visible = block(images)

with images normalised (B, 3, H, W), not modified; occluded of the same shape; visible (B, 1, H, W), 1 kept, 0 occluded.
OcclusionBlock is a base for them, which brings seed, probability and mask.
The host has no registry for augmentations of a batch, so this one is the plugin's, made with the host's class.
"""


def build_occlusion(cfg) -> nn.Module:
    """The block named by MODEL.OCCLUSION.NAME."""
    return OCCLUSION_REGISTRY.get(cfg.MODEL.OCCLUSION.NAME)(cfg)
