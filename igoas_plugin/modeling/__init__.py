"""The network and its losses."""

from . import heads, igoas, timm_backbone, wrapper  # noqa: F401  (registers heads, meta-architectures and a backbone)
