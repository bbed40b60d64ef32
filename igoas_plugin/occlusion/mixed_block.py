"""MixedOcclusion: each batch is occluded by one of several blocks."""

import numpy as np
from fastreid.config import configurable
from torch import Tensor, nn

from igoas_plugin.core.errors import InputError, require_choice
from igoas_plugin.core.run_progress import RunProgress

from .block import OCCLUSION_REGISTRY, OcclusionBlock, build_occlusion


@OCCLUSION_REGISTRY.register()
class MixedOcclusion(OcclusionBlock):
    """Occlusion block that occludes each batch by one of the blocks MODEL.OCCLUSION.MIXED, all equally likely.

    A name that stands twice is twice as likely. Probability, mask and truncation are those of this block.

    Args:
        blocks: one or more, which occlude images.
        settings: of OcclusionBlock.

    Raises:
        InputError: a block cannot be mixed.
    """

    @configurable
    def __init__(self, *, blocks: list[OcclusionBlock], **settings):
        super().__init__(**settings)
        for block in blocks:
            if not isinstance(block, OcclusionBlock) or isinstance(block, MixedOcclusion) or hasattr(block, "drop"):
                raise InputError(
                    f"MODEL.OCCLUSION.MIXED: {type(block).__name__} cannot be mixed: name subclasses of OcclusionBlock "
                    "that occlude images, such as IncrementalErasing"
                )
        self.blocks = nn.ModuleList(blocks)

    @classmethod
    def from_config(cls, cfg) -> dict:
        if not cfg.MODEL.OCCLUSION.MIXED:
            raise InputError("MODEL.OCCLUSION.MIXED is empty: name the blocks of MixedOcclusion")
        return {"blocks": [block_of(cfg, name) for name in cfg.MODEL.OCCLUSION.MIXED], **super().from_config(cfg)}

    def occlude(self, rng: np.random.Generator, progress: RunProgress, images: Tensor) -> tuple[Tensor, Tensor, float]:
        return self.blocks[rng.integers(len(self.blocks))].occlude(rng, progress, images)


def block_of(cfg, name: str) -> nn.Module:
    """Builds a block of MODEL.OCCLUSION.MIXED."""
    require_choice("MODEL.OCCLUSION.MIXED", name, sorted({*OCCLUSION_REGISTRY._obj_map} - {"MixedOcclusion"}), True)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.OCCLUSION.NAME = name
    return build_occlusion(cfg)
