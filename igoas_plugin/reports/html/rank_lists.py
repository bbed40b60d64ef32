"""Queries that a page shows with what they found, as pictures."""

import functools
from typing import NamedTuple

import numpy as np

from igoas_plugin.evaluation.retrieval import Match, Retrieval

from .queries import Query, folder_of, name_below
from .thumbnails import Thumbnail, thumbnail

SIZE = (64, 128)  # pixels (width, height) that a picture fits in
LENGTH = 10  # nearest gallery images that are shown of each query
KEPT_THUMBNAILS = 4096  # a gallery image is often found by several queries


class Found(NamedTuple):
    """A gallery image in a rank list.

    Args:
        rank: 1, 2, ...; None for junk, which has no rank.
        state: "right", "wrong" or "junk".
        image: of it.
        identity, camera: as the data set numbers them.
        distance: from the query.
        later: it lies behind the first LENGTH images, and is shown because it is the first match.
    """

    rank: int | None
    state: str
    image: Thumbnail
    identity: str
    camera: str
    distance: float
    later: bool = False


class RankList(NamedTuple):
    """A query and the nearest gallery images, best first."""

    query: Query
    image: Thumbnail
    found: list[Found]


def choose(queries: list[Query], count: int) -> dict[str, list[Query]]:
    """The queries that are shown with pictures, none of them twice.

    Args:
        queries: of a test set, the worst first.
        count: how many of each kind, at most; of few queries a half are the worst, the others the best.

    Returns:
        "worst" and "best", from the end inwards, and "random": drawn from the rest with a fixed seed.
    """
    answered = [query for query in queries if query.ap is not None]
    count = min(count, (len(answered) + 1) // 2)
    worst, middle = answered[:count], answered[count:]
    best = middle[::-1][:count]
    rest = middle[: len(middle) - len(best)]
    drawn = np.random.default_rng(0).permutation(len(rest))[:count]
    return {"worst": worst, "best": best, "random": [rest[index] for index in sorted(drawn)]}


def rank_lists(retrieval: Retrieval, queries: list[Query]) -> list[RankList]:
    """Rank lists of these queries, with pictures.

    Args:
        retrieval: of the test set.
        queries: some of it.

    Raises:
        InputError: an image cannot be read.
    """
    folder = folder_of(retrieval.gallery)

    @functools.lru_cache(KEPT_THUMBNAILS)
    def gallery_image(position: int) -> Thumbnail:
        path, _, _ = retrieval.gallery[position]
        return thumbnail(path, f"gallery image {name_below(folder, path)}", SIZE)

    def found(match: Match, later: bool) -> Found:
        _, identity, camera = retrieval.gallery[match.position]
        image = gallery_image(match.position)
        return Found(match.rank, match.state, image, str(identity), str(camera), match.distance, later)

    lists = []
    for query in queries:
        path, _, _ = retrieval.query[query.position]
        shown = []
        for index, match in enumerate(retrieval.matches(query.position)):
            first_later = index >= LENGTH and match.state == "right"
            if index < LENGTH or first_later:
                shown.append(found(match, first_later))
            if index + 1 >= LENGTH and any(each.state == "right" for each in shown):
                break
        lists.append(RankList(query, thumbnail(path, f"query image {query.file}", SIZE), shown))
    return lists
