"""Ranking of large galleries in blocks of queries, whose memory is limited whatever the gallery's size."""

from .blocks import Labels, Ranked, rank_in_blocks
from .centralisation import centralise
from .distances import Distances
from .expansion import expand
from .reranking import Reranked

__all__ = ["Distances", "Labels", "Ranked", "Reranked", "centralise", "expand", "rank_in_blocks"]
