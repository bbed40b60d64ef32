from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from torch import Tensor

COUNTED = 40  # matches of a query up to which comparing its distances with each takes less time than sorting them

NO_MATCH = "no query has a gallery image of its identity in another camera: there is nothing to rank"


class Labels(NamedTuple):
    """Whom images show and which camera took them: integer arrays of shape (N,) each."""

    pids: np.ndarray
    camids: np.ndarray


class Ranked(NamedTuple):
    """How well queries found their own identity, as the host's evaluate_rank gives it.

    Args:
        cmc: share of the queries with a match among the first 1, 2, ... images, shape (max_rank,), in [0, 1].
        ap: average precision of each query that has a match, in [0, 1].
        inp: inverse negative penalty of each, in (0, 1]: its matches, divided by the rank of the last of them.
    """

    cmc: np.ndarray
    ap: np.ndarray
    inp: np.ndarray


def rank_in_blocks(blocks: Iterable[tuple[int, Tensor]], query: Labels, gallery: Labels, max_rank: int = 50) -> Ranked:
    """CMC, AP and INP of the Market-1501 protocol, from distances that come a block of queries at a time.

    Gallery images of a query's identity and camera are left out; queries without a match are left out of everything.
    The rank of a match is counted: one, and how many images are not farther. No row of distances is sorted as a whole,
    and none is kept.

    Ties: where a match and an image of another identity are equally far, the match comes second (the worst order); the
    host's order is arbitrary there. Distances that are not numbers must be infinite: see Distances.

    Sources: the protocol, Zheng et al., ICCV 2015; mINP, Ye et al., TPAMI 2021; evaluate_rank of fast-reid 1.4.0.

    Args:
        blocks: pairs (position of the first query, distances of shape (block, G)); the distances are changed.
        query, gallery: labels of Q and G images.
        max_rank: length of the CMC; a shorter gallery's goes on with its last value.

    Raises:
        ValueError: no query has a match.

    Example:
        One query of person 0. By distance the gallery holds persons 1, 0, 2, 0: matches at ranks 2 and 4.

        >>> import torch
        >>> distances = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
        >>> gallery = Labels(np.array([1, 0, 2, 0]), np.array([1, 1, 1, 1]))
        >>> rank_in_blocks([(0, distances)], Labels(np.array([0]), np.array([0])), gallery, max_rank=3)
        Ranked(cmc=array([0., 1., 1.], dtype=float32), ap=array([0.5]), inp=array([0.5]))
    """
    order = np.argsort(gallery.pids, kind="stable")
    bounds = [np.searchsorted(gallery.pids, query.pids, side, order) for side in ("left", "right")]
    first_found, ap, inp = np.zeros(max_rank + 1, np.int64), [], []
    for first, rows in blocks:
        for position, row in enumerate(rows.numpy(), start=first):
            same = order[bounds[0][position] : bounds[1][position]]
            matches = same[gallery.camids[same] != query.camids[position]]
            if not len(matches):
                continue
            distances = np.sort(row[matches])
            row[same] = -np.inf  # neither a match nor an image that is left out counts as farther
            others = len(row) - len(same)
            found = np.arange(1, len(matches) + 1)
            ranks = found + others - count_farther(row, distances)
            ap.append(np.mean(found / ranks))
            inp.append(len(matches) / ranks[-1])
            first_found[min(ranks[0], max_rank + 1) - 1] += 1
    if not ap:
        raise ValueError(NO_MATCH)
    cmc = first_found[:max_rank].cumsum() / len(ap)
    return Ranked(cmc.astype(np.float32), np.array(ap), np.array(inp))


def count_farther(row: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """How many values of `row` are larger than each of the sorted `distances`."""
    if len(distances) > COUNTED:
        return len(row) - np.searchsorted(np.sort(row), distances, side="right")
    return np.array([np.count_nonzero(row > distance) for distance in distances])
