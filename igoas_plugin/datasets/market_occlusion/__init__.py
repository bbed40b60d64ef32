"""The occlusions of OccludedMarket1501: made from an image, its file name and a version number, the same everywhere."""

from .occlude import KINDS, SEVERITIES, occlude
from .seeds import VERSION

__all__ = ["KINDS", "SEVERITIES", "VERSION", "occlude"]
