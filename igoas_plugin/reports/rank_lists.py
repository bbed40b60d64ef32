"""Rank lists of an evaluation: each query with its quality and the gallery images that it found."""

from collections.abc import Sequence
from statistics import mean
from typing import Literal, NamedTuple

import numpy as np

from igoas_plugin.datasets.market_style import Item
from igoas_plugin.datasets.reading import shown_camera
from igoas_plugin.evaluation.retrieval import Match, Retrieval
from igoas_plugin.fastreid_fixes.labels import Label, in_order

from .figures.pixel_images import drawn


class Query(NamedTuple):
    """Query of a test set.

    Args:
        position: index among the queries of the data set.
        identity, camera: labels of the data set; the camera is that of shown_camera().
        ap: average precision in %; None if the gallery has no image of the identity in another camera.
        first: rank of its first match, from 1; junk, which no metric counts, has no rank. None as for `ap`.
    """

    position: int
    path: str
    identity: Label
    camera: Label
    ap: float | None
    first: int | None


class Found(NamedTuple):
    """Gallery image in a rank list.

    Args:
        identity, camera: labels of the data set; the camera is that of shown_camera().
        match: rank, distance and state ("right", "wrong" or "junk").
    """

    path: str
    identity: Label
    camera: Label
    match: Match


class RankList(NamedTuple):
    """Query with the gallery images that it found.

    Args:
        found: nearest gallery images, nearest first.
        later: the first match, if it lies behind `found`.
    """

    query: Query
    found: list[Found]
    later: Found | None


class Group(NamedTuple):
    """Quality of the queries of one identity or one camera.

    Args:
        label: the identity or the camera.
        queries: number of queries with a possible match.
        ap: mean average precision, in %.
        rank_1: share of queries whose nearest image is a match, in %.
        worst: lowest average precision, in %.
    """

    label: Label
    queries: int
    ap: float
    rank_1: float
    worst: float


def query_at(retrieval: Retrieval, position: int) -> Query:
    """Returns the query at a position of the data set."""
    ap, item = retrieval.ap[position], with_shown_camera(retrieval.name, retrieval.query[position])
    if np.isnan(ap):
        return Query(position, *item, None, None)
    return Query(position, *item, 100 * float(ap), retrieval.first[position].rank)


def with_shown_camera(name: str, item: Item) -> Item:
    """Returns (path, identity, camera) of a data set with the camera of shown_camera()."""
    path, identity, camera = item
    return path, identity, shown_camera(name, camera)


def queries_of(retrieval: Retrieval) -> list[Query]:
    """Returns all queries, the worst first; those without a possible match come last."""
    unanswered = np.flatnonzero(np.isnan(retrieval.ap)).tolist()
    return [query_at(retrieval, position) for position in [*retrieval.by_quality().tolist(), *unanswered]]


def rank_list(retrieval: Retrieval, query: Query, top: int, junk: bool = True) -> RankList:
    """Returns the rank list of a query.

    Args:
        junk: whether images of the query's identity in its own camera are listed.
    """

    def found(match: Match) -> Found:
        return Found(*with_shown_camera(retrieval.name, retrieval.gallery[match.position]), match)

    nearest = [match for match in retrieval.matches(query.position) if junk or match.state != "junk"][:top]
    first = retrieval.first[query.position]
    later = first is not None and all(match.state != "right" for match in nearest)
    return RankList(query, [found(match) for match in nearest], found(first) if later else None)


def extremes(queries: Sequence[Query], count: int) -> dict[str, list[Query]]:
    """Chooses the worst queries, the best ones, and a random sample of the others; no query is chosen twice.

    Args:
        queries: queries of a test set, the worst first. Those without a possible match are never chosen.
        count: number of queries of each kind. Of too few queries one half are the worst and the others the best.
    """
    answered = [query for query in queries if query.ap is not None]
    count = min(count, (len(answered) + 1) // 2)
    worst, others = answered[:count], answered[count:]
    best, others = others[::-1][:count], others[: max(len(others) - count, 0)]
    return {"worst": worst, "best": best, "random": drawn(others, count, seed=0)}


def grouped(queries: Sequence[Query], label: Literal["identity", "camera"]) -> list[Group]:
    """Groups the queries that have a possible match by identity or camera, in the order of the labels."""
    members = {}
    for query in queries:
        if query.ap is not None:
            members.setdefault(getattr(query, label), []).append(query)
    groups = []
    for name in in_order(members):
        own = members[name]
        hits, precisions = [query.first == 1 for query in own], [query.ap for query in own]
        groups.append(Group(name, len(own), mean(precisions), 100 * mean(hits), min(precisions)))
    return groups
