"""Occlusion blocks of IGOAS: schedule, rectangles, fills and the registered blocks."""

from . import cutout_block, mixed_block, rectangle_blocks  # noqa: F401  (registers the occlusion blocks)
from .block import OCCLUSION_REGISTRY, OcclusionBlock, build_occlusion

__all__ = ["OCCLUSION_REGISTRY", "OcclusionBlock", "build_occlusion"]
