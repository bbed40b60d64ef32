"""The queries of an evaluation, one by one and in groups, as numbers."""

import os
from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np

from igoas_plugin.core.errors import printable
from igoas_plugin.datasets.market_style import Item
from igoas_plugin.evaluation.retrieval import Retrieval


class FirstMatch(NamedTuple):
    """Where a query found its identity first; junk, which no metric counts, is not counted here either.

    Args:
        rank: of the first match; or, where it is not `found`, how many images were looked at in vain.
        found: whether it is among the nearest images that a Retrieval keeps.
    """

    rank: int
    found: bool

    def __str__(self) -> str:
        return str(self.rank) if self.found else f"> {self.rank}"

    @property
    def sort_key(self) -> int:
        return self.rank if self.found else self.rank + 1


class Query(NamedTuple):
    """A row of the table of all queries.

    Args:
        position: among the queries of the data set.
        file: path below the folder that holds all queries.
        identity, camera: as the data set numbers them.
        ap: average precision in %; None where nothing in the gallery could match.
        first: where it found its identity; None where it could not.
    """

    position: int
    file: str
    identity: str
    camera: str
    ap: float | None
    first: FirstMatch | None


class Group(NamedTuple):
    """Queries of one identity or one camera.

    Args:
        label: the identity or camera.
        queries: how many that could be answered.
        ap: their mean average precision in %.
        rank_1: share of them whose nearest image is a match, in %.
        worst: the lowest average precision among them, in %.
    """

    label: str
    queries: int
    ap: float
    rank_1: float
    worst: float


def queries_of(retrieval: Retrieval) -> list[Query]:
    """All queries, the worst first; those that could not be answered come last."""
    folder, rows = folder_of(retrieval.query), []
    answered = retrieval.by_quality().tolist()
    rest = np.flatnonzero(np.isnan(retrieval.ap)).tolist()
    for position in [*answered, *rest]:
        path, identity, camera = retrieval.query[position]
        ap = retrieval.ap[position]
        known = None if np.isnan(ap) else (100 * float(ap), first_match(retrieval, position))
        rows.append(Query(position, name_below(folder, path), str(identity), str(camera), *(known or (None, None))))
    return rows


def first_match(retrieval: Retrieval, query: int) -> FirstMatch:
    counted = [match for match in retrieval.matches(query) if match.rank is not None]
    ranks = (match.rank for match in counted if match.state == "right")
    rank = next(ranks, None)
    return FirstMatch(len(counted), False) if rank is None else FirstMatch(rank, True)


def folder_of(items: Sequence[Item]) -> str:
    """The folder that all these images lie in, or below."""
    return os.path.commonpath([os.path.dirname(path) for path, _, _ in items])


def name_below(folder: str, path: str) -> str:
    """How a page calls a path: without the folder, if it lies in there."""
    relative = os.path.relpath(path, folder)
    return printable((path if relative.startswith(os.pardir) else relative).replace(os.sep, "/"))


def grouped(queries: Sequence[Query], column: str) -> list[Group]:
    """The queries that could be answered, by one of their columns, in the order of its numbers.

    Args:
        queries: of a test set.
        column: "identity" or "camera".
    """
    members = {}
    for query in queries:
        if query.ap is not None:
            members.setdefault(getattr(query, column), []).append(query)
    groups = []
    for label in sorted(members, key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else label)):
        own = members[label]
        hits = mean(query.first == FirstMatch(1, True) for query in own)
        precisions = [query.ap for query in own]
        groups.append(Group(label, len(own), mean(precisions), 100 * hits, min(precisions)))
    return groups
