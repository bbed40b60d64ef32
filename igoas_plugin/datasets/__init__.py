"""Data sets of the plugin: importing this package registers them with the host."""

from .occluded_duke import OccludedDuke
from .toy_occluded import ToyOccluded, ToyOccludedTrain

__all__ = ["OccludedDuke", "ToyOccluded", "ToyOccludedTrain"]
