"""Data sets of the plugin. Importing this package registers them with fast-reid."""

from .market_1501_dev import Market1501Dev
from .occluded_duke import OccludedDuke
from .occluded_market.occluded_market_1501 import OccludedMarket1501
from .occluded_reid import OccludedREID, OccludedREIDHalfSplit
from .p_duke import PDukeMTMC
from .p_ethz import PETHZ
from .partial_ilids import PartialiLIDS, PartialiLIDSUncropped
from .partial_reid import PartialREID, PartialREIDOccluded
from .toy.toy_occluded import ToyOccluded

__all__ = [
    "Market1501Dev",
    "OccludedDuke",
    "OccludedMarket1501",
    "OccludedREID",
    "OccludedREIDHalfSplit",
    "PDukeMTMC",
    "PETHZ",
    "PartialREID",
    "PartialREIDOccluded",
    "PartialiLIDS",
    "PartialiLIDSUncropped",
    "ToyOccluded",
]
