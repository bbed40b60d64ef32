from . import occluders  # noqa: F401  (registers the occlusion blocks)
from .build import OCCLUSION_REGISTRY, build_occlusion

__all__ = ["OCCLUSION_REGISTRY", "build_occlusion"]
