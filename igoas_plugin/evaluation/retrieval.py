"""An evaluation, query by query: what was found, at which distance, and how well."""

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
from igoas_plugin.modeling.fast_inference import for_evaluation

from .descriptors import describe
from .evaluator import distances_of, metrics_of
from .ranking import Labels, rank_in_blocks

NEAREST = 100  # gallery images that are kept of each query


class Match(NamedTuple):
    """A gallery image that a query found.

    Args:
        position: of the image in the gallery.
        distance: as TEST.METRIC measures it: 1 - cosine, or squared Euclidean.
        rank: counted from 1 without junk; None of junk.
        state: "right": the query's identity in another camera; "junk": in the same camera, which no metric counts;
            "wrong": another identity.
    """

    position: int
    distance: float
    rank: int | None
    state: Literal["right", "wrong", "junk"]


@dataclass(frozen=True)
class Retrieval:
    """What an evaluation of one test set found.

    Args:
        name: of the data set.
        query, gallery: (path, identity, camera) of Q and G images.
        features: descriptors of the queries, then of the gallery, (Q + G, D).
        nearest: positions of the nearest gallery images of each query, best first, (Q, K); of those at an equal
            distance the right ones come last.
        distances: of these, (Q, K).
        ap: average precision of each query, in [0, 1], (Q,); NaN where nothing in the gallery could match.
        cmc: share of the queries with a match among the first 1, 2, ... images, in [0, 1].
        metrics: {name: value in %}, by the names of the host's evaluator.
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

    def matches(self, query: int) -> list[Match]:
        """The nearest images of the query at this position, best first, junk among them."""
        matches, ranks = [], itertools.count(1)
        for position, distance in zip(self.nearest[query].tolist(), self.distances[query].tolist(), strict=True):
            state = self.state(query, position)
            matches.append(Match(position, distance, None if state == "junk" else next(ranks), state))
        return matches

    def state(self, query: int, position: int) -> str:
        _, identity, camera = self.query[query]
        _, found, found_camera = self.gallery[position]
        if found != identity:
            return "wrong"
        return "junk" if found_camera == camera else "right"

    def by_quality(self) -> np.ndarray:
        """Positions of the queries that could be answered, the worst average precision first."""
        order = np.argsort(self.ap, kind="stable")  # NaN comes last
        return order[: np.count_nonzero(~np.isnan(self.ap))]


def retrieve(cfg, model: nn.Module, name: str) -> Retrieval:
    """Evaluates a model on a test set as the host's evaluator does, and keeps what each query found.

    Args:
        cfg: of the model; TEST holds, also query expansion and re-ranking.
        model: in evaluation mode, before TEST.FAST.
        name: of a registered data set.

    Raises:
        InputError: the data set is missing or damaged, an image cannot be read, or no query can be answered.
    """
    data = open_data(name)
    query, gallery = (list(read_split(name, data, split)) for split in ("query", "gallery"))
    images = CommDataset([*query, *gallery], build_transforms(cfg, is_train=False), relabel=False)
    features = describe(cfg, for_evaluation(cfg, model), images)["feats"]
    return ranked_retrieval(name, query, gallery, features, distances_of(cfg, features, len(query)))


def ranked_retrieval(
    name: str, query: list[Item], gallery: list[Item], features: Tensor, blocks: Iterable[tuple[int, Tensor]]
) -> Retrieval:
    """The same from descriptors and distances.

    Args:
        name, query, gallery, features: as Retrieval takes them.
        blocks: pairs (position of the first query, distances of shape (block, G)).

    Raises:
        InputError: no query can be answered.
    """
    count, labels, others = min(NEAREST, len(gallery)), labels_of(query), labels_of(gallery)
    nearest, distances = np.empty((len(query), count), np.int64), np.empty((len(query), count), np.float32)

    def noted() -> Iterator[tuple[int, Tensor]]:
        for first, rows in blocks:
            found = torch.topk(rows, count, largest=False)
            values, positions = found.values.numpy(), found.indices.numpy()
            part = slice(first, first + len(rows))
            same = others.pids[positions] == labels.pids[part, None]
            right = same & (others.camids[positions] != labels.camids[part, None])
            order = np.lexsort((right, values))  # of equal distances the right ones last, as the metrics count them
            distances[part], nearest[part] = (np.take_along_axis(each, order, 1) for each in (values, positions))
            yield first, rows

    try:
        ranked = rank_in_blocks(noted(), labels, others)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    ap = np.full(len(query), np.nan)
    ap[answerable(labels, others)] = ranked.ap
    metrics = {metric: float(value) for metric, value in metrics_of(ranked).items()}
    return Retrieval(name, query, gallery, features, nearest, distances, ap, ranked.cmc, metrics)


def labels_of(items: list[Item]) -> Labels:
    return Labels(*(np.array([item[part] for item in items]) for part in (1, 2)))


def answerable(query: Labels, gallery: Labels) -> np.ndarray:
    """Whether the gallery holds a query's identity in another camera, (Q,)."""
    cameras = {}
    for identity, camera in zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True):
        cameras.setdefault(identity, set()).add(camera)
    asked = zip(query.pids.tolist(), query.camids.tolist(), strict=True)
    return np.array([bool(cameras.get(identity, set()) - {camera}) for identity, camera in asked])
