from . import cutouts, feature_drop, occluders  # noqa: F401  (registers the occlusion blocks)
from .block import OcclusionBlock
from .build import OCCLUSION_REGISTRY, build_occlusion

__all__ = ["OCCLUSION_REGISTRY", "OcclusionBlock", "build_occlusion"]
