"""Metrics of the Market-1501 protocol from distances that come in blocks of queries."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from igoas_plugin.core.errors import InputError

COUNTED = 40  # up to this number of matches, counting nearer images for each is faster than sorting a row

NO_IMAGE = "no query has a gallery image of its identity: there is nothing to rank"
REMEDY = "give query and gallery different camera ids, or set TEST.CAMERA_RULE False"
NO_MATCH = f"no query has a gallery image of its identity in another camera: there is nothing to rank; {REMEDY}"


class Labels(NamedTuple):
    """Identities and cameras of N images: integer arrays of shape (N,) each."""

    pids: np.ndarray
    camids: np.ndarray


class Ranked(NamedTuple):
    """Metrics of a ranking, in the form of fast-reid's evaluate_rank.

    Args:
        cmc: share of the queries with a match among the first 1, 2, ... images, shape (max_rank,), in [0, 1].
        ap: average precision of each query that has a match, in [0, 1].
        inp: inverse negative penalty of each such query, in (0, 1]: its number of matches divided by the rank of the
            last one.
    """

    cmc: np.ndarray
    ap: np.ndarray
    inp: np.ndarray


def rank_in_blocks(
    blocks: Iterable[tuple[int, Tensor]], query: Labels, gallery: Labels, max_rank: int = 50, camera_rule: bool = True
) -> Ranked:
    """Computes CMC, AP and INP of the Market-1501 protocol from distances that come in blocks of queries.

    A query's gallery images of its own identity and camera are left out (the camera rule). A query without a match is
    left out of every metric. The rank of a match is counted as one plus the number of images that are not farther, so
    that no whole row of distances is sorted or kept.

    AP is the non-interpolated average precision, as in fast-reid: the mean, over the matches, of the precision at the
    rank of each. The script of Market-1501 takes the trapezoid rule, which gives lower values.

    Ties: if a match and an image of another identity have equal distances, the match comes second. fast-reid's order is
    arbitrary there. Distances must not be NaN; see Distances.

    Sources: the protocol, Zheng et al., ICCV 2015; mINP, Ye et al., TPAMI 2021; evaluate_rank of fast-reid 1.4.0.

    Args:
        blocks: pairs (position of the first query, distances of shape (block, G)); the distances are overwritten.
        query, gallery: labels of Q and G images.
        max_rank: length of the CMC curve; with a smaller gallery its last value is repeated.
        camera_rule: False also ranks the images that the camera rule leaves out, as matches.

    Raises:
        InputError: no query has a match.

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
            matches = same[gallery.camids[same] != query.camids[position]] if camera_rule else same
            if not len(matches):
                continue
            distances = np.sort(row[matches])
            row[same] = -np.inf  # so that neither a match nor an image that is left out counts as farther
            others = len(row) - len(same)
            found = np.arange(1, len(matches) + 1)
            ranks = found + others - count_farther(row, distances)
            ap.append(np.mean(found / ranks))
            inp.append(len(matches) / ranks[-1])
            first_found[min(ranks[0], max_rank + 1) - 1] += 1
    if not ap:
        raise InputError(NO_MATCH if camera_rule else NO_IMAGE)
    cmc = first_found[:max_rank].cumsum() / len(ap)
    return Ranked(cmc.astype(np.float32), np.array(ap), np.array(inp))


def count_farther(row: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Returns how many values of `row` are larger than each of the sorted `distances`."""
    if len(distances) > COUNTED:
        return len(row) - np.searchsorted(np.sort(row), distances, side="right")
    return np.array([np.count_nonzero(row > distance) for distance in distances])
