"""Retrieval: the rank list and the average precision of each query of an evaluation."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from fastreid.data.common import CommDataset
from fastreid.data.transforms import build_transforms
from torch import Tensor, nn

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.market_style import Item
from igoas_plugin.datasets.reading import open_data, read_split
from igoas_plugin.fastreid_fixes.labels import numbered
from igoas_plugin.modeling.fast_inference import for_evaluation

from .descriptors import describe
from .evaluator import applies_camera_rule, distances_of, metrics_of
from .pair_distances import PairDistances
from .ranking import Labels, rank_in_blocks

NEAREST = 100  # length of the rank list that is kept of each query


class Match(NamedTuple):
    """Gallery image in the rank list of a query.

    Args:
        position: of the image in the gallery.
        distance: 1 - cosine or squared Euclidean distance, by TEST.METRIC.
        rank: from 1, junk not counted; None for junk.
        state: "right" for the query's identity in another camera, "junk" for its identity in the same camera (no metric
            counts it; without the camera rule it is "right"), "wrong" for another identity.
    """

    position: int
    distance: float
    rank: int | None
    state: Literal["right", "wrong", "junk"]


@dataclass(frozen=True)
class Retrieval:
    """Result of an evaluation on one test set, query by query.

    Args:
        name: of the data set.
        query, gallery: (path, identity, camera) of Q and G images.
        features: descriptors of the model, before TEST.NFC and TEST.AQE: of the queries, then of the gallery,
            (Q + G, D).
        nearest: positions of the K nearest gallery images of each query, best first, (Q, K). Among equal distances the
            right images come last.
        distances: of the nearest images, (Q, K).
        ap: average precision of each query, in [0, 1], (Q,); NaN for a query without a match in the gallery.
        cmc: share of the queries with a match among the first 1, 2, ... images, in [0, 1].
        metrics: {name: value in %}, by the names of fast-reid's evaluator.
        pairs: distances of all right and all wrong pairs, without junk.
        first: first match of each query in the whole gallery, None for a query without a match.
        camera_rule: TEST.CAMERA_RULE.
    """

    name: str
    query: list[Item]
    gallery: list[Item]
    features: Tensor
    nearest: np.ndarray
    distances: np.ndarray
    ap: np.ndarray
    cmc: np.ndarray
    metrics: dict[str, float]
    pairs: PairDistances
    first: list[Match | None]
    camera_rule: bool = True

    def matches(self, query: int) -> list[Match]:
        """Returns the rank list of the query at this position, best first, with junk."""
        matches, ranks = [], itertools.count(1)
        for position, distance in zip(self.nearest[query].tolist(), self.distances[query].tolist(), strict=True):
            state = self.state(query, position)
            matches.append(Match(position, distance, None if state == "junk" else next(ranks), state))
        return matches

    def state(self, query: int, position: int) -> str:
        """Returns the Match.state of a gallery image for a query, both given by their positions."""
        _, identity, camera = self.query[query]
        _, found, found_camera = self.gallery[position]
        if found != identity:
            return "wrong"
        return "junk" if self.camera_rule and found_camera == camera else "right"

    def by_quality(self) -> np.ndarray:
        """Returns the positions of the queries that have a match, the lowest average precision first."""
        order = np.argsort(self.ap, kind="stable")  # NaN comes last
        return order[: np.count_nonzero(~np.isnan(self.ap))]


def retrieve(cfg, model: nn.Module, name: str) -> Retrieval:
    """Evaluates a model on a test set as fast-reid's evaluator does, and keeps the rank list of each query.

    Args:
        cfg: of the model; all of TEST is read, TEST.NFC, query expansion and re-ranking included.
        model: in evaluation mode, not yet converted by TEST.FAST.
        name: of a registered data set.

    Raises:
        InputError: the data set is missing or damaged, an image cannot be read, or no query has a match.
    """
    data = open_data(name)
    query, gallery = (list(read_split(name, data, split)) for split in ("query", "gallery"))
    images = CommDataset([*query, *gallery], build_transforms(cfg, is_train=False), relabel=False)
    features = describe(cfg, for_evaluation(cfg, model), images)["feats"]
    blocks = distances_of(cfg, features, len(query))
    return ranked_retrieval(name, query, gallery, features, blocks, applies_camera_rule(cfg))


def ranked_retrieval(
    name: str,
    query: list[Item],
    gallery: list[Item],
    features: Tensor,
    blocks: Iterable[tuple[int, Tensor]],
    camera_rule: bool = True,
) -> Retrieval:
    """Ranks queries by distances that are given.

    Args:
        name, query, gallery, features, camera_rule: as in Retrieval.
        blocks: pairs (position of the first query, distances of shape (block, G)).

    Raises:
        InputError: no query has a match.
    """
    count, (labels, others) = min(NEAREST, len(gallery)), map(labels_of, numbered(query, gallery))
    pairs, firsts = PairDistances(), []
    nearest, distances = np.empty((len(query), count), np.int64), np.empty((len(query), count), np.float32)

    def keeping_nearest() -> Iterator[tuple[int, Tensor]]:
        for first, rows in blocks:
            found = torch.topk(rows, count, largest=False)
            values, positions = found.values.numpy(), found.indices.numpy()
            part = slice(first, first + len(rows))
            same = others.pids[positions] == labels.pids[part, None]
            right = same & ((others.camids[positions] != labels.camids[part, None]) | (not camera_rule))
            order = np.lexsort((right, values))  # right images last, as the metrics count ties
            distances[part], nearest[part] = (np.take_along_axis(each, order, 1) for each in (values, positions))
            for row, pid, camid in zip(rows.numpy(), labels.pids[part], labels.camids[part], strict=True):
                same = others.pids == pid
                matching = same & ((others.camids != camid) | (not camera_rule))
                pairs.add(row[matching | ~same], same[matching | ~same])
                firsts.append(first_match(row, matching, ~same))
            yield first, rows

    try:
        ranked = rank_in_blocks(keeping_nearest(), labels, others, camera_rule=camera_rule)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    ap = np.full(len(query), np.nan)
    ap[has_match(labels, others, camera_rule)] = ranked.ap
    metrics = {metric: float(value) for metric, value in metrics_of(ranked).items()}
    return Retrieval(
        name, query, gallery, features, nearest, distances, ap, ranked.cmc, metrics, pairs, firsts, camera_rule
    )


def first_match(distances: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> Match | None:
    """Returns the nearest right image of a query, ranked behind wrong images of the same distance, or None.

    Args:
        distances: of the query to all gallery images, (G,).
        right, wrong: which of the images are matches and which have another identity, (G,), bool.
    """
    if not right.any():
        return None
    positions = np.flatnonzero(right)
    position = int(positions[distances[positions].argmin()])
    rank = 1 + np.count_nonzero(distances[wrong] <= distances[position])
    return Match(position, float(distances[position]), int(rank), "right")


def labels_of(items: list[Item]) -> Labels:
    """Returns identities and cameras of (path, identity, camera), which are integers, as arrays."""
    return Labels(*(np.array([item[part] for item in items]) for part in (1, 2)))


def has_match(query: Labels, gallery: Labels, camera_rule: bool) -> np.ndarray:
    """Returns for each query whether the gallery holds its identity, by the camera rule in another camera, (Q,)."""
    matches = (
        (gallery.pids == pid) & ((gallery.camids != camid) | (not camera_rule))
        for pid, camid in zip(*query, strict=True)
    )
    return np.array([each.any() for each in matches])
