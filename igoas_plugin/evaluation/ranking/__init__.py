"""Ranking of large galleries: a block of queries at a time, in memory that does not grow with the gallery."""

from .blocks import Labels, Ranked, rank_in_blocks
from .distances import Distances
from .expansion import expand
from .reranking import Reranked

__all__ = ["Distances", "Labels", "Ranked", "Reranked", "expand", "rank_in_blocks"]
