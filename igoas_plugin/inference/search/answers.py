import json
import logging
import os
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from igoas_plugin.core.errors import printable
from igoas_plugin.inference.predictor import FeatureExtractor

from .gallery_file import GalleryFile

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are


class Match(NamedTuple):
    """A crop that a search found.

    Args:
        rank: from 1.
        score: cosine similarity to the query, in [-1, 1]; of a pq index approximate.
        path: below the folder of the gallery.
    """

    rank: int
    score: float
    path: str


@dataclass(frozen=True)
class Answers:
    """What was found in a gallery index.

    Args:
        index: path of the gallery index.
        folder: of the crops.
        kind: of the index.
        images: how many crops it holds.
        matches: of each query, path and matches, best first.
    """

    index: str
    folder: str
    kind: str
    images: int
    matches: list[tuple[str, list[Match]]]


def search(
    file: GalleryFile, pictures: list[str], top: int, predictor: FeatureExtractor, folder: str | None = None
) -> Answers:
    """The crops of a gallery that are most like each picture; how long it took is logged.

    Args:
        file: the gallery index.
        pictures: paths of the queries.
        top: how many crops, or all where there are fewer.
        predictor: the model that made the index.
        folder: where the crops are now, if they were moved.

    Raises:
        InputError: the index is damaged or of another model, a picture cannot be read, or `folder` is none.
    """
    folder = file.folder(folder)
    file.require(predictor.fingerprint)
    if not file.finished:
        logger.warning("%s is not finished: the command that made it goes on where it was stopped", file.path)
    index, started = file.index(), time.perf_counter()
    descriptors, described = predictor(pictures), time.perf_counter()
    found, searched = index.search(descriptors, top), time.perf_counter()
    logger.info(
        "%d images described in %.0f ms, %s searched in %.1f ms",
        *(len(pictures), 1000 * (described - started), f"{len(index):,}", 1000 * (searched - described)),
    )
    matches = [(picture, matches_of(*each, file)) for picture, *each in zip(pictures, *found, strict=True)]
    return Answers(file.path, folder, file.gallery.kind, len(index), matches)


def matches_of(scores: np.ndarray, positions: np.ndarray, file: GalleryFile) -> list[Match]:
    """What an index found for one query; position -1: nothing."""
    crops, scores = file.gallery.crops, scores[positions >= 0].clip(-1, 1)
    found = zip(scores.tolist(), positions.tolist(), strict=False)  # those of -1 are at the end
    return [Match(rank, round(score, 6), crops[position].path) for rank, (score, position) in enumerate(found, start=1)]


def as_text(answers: Answers) -> str:
    """A table for each query."""
    lines = [f"{answers.images:,} images of {printable(answers.folder)}, index {answers.kind}"]
    for query, matches in answers.matches:
        lines += ["", printable(query), "rank    score  image"]
        lines += [f"{match.rank:4}  {match.score:7.4f}  {printable(match.path)}" for match in matches]
    return "\n".join(lines)


def as_json(answers: Answers) -> str:
    """All of it as one object; names as they are, bytes that are no UTF-8 as Python's surrogate escapes."""
    queries = [
        {
            "query": query,
            "matches": [{**match._asdict(), "file": os.path.join(answers.folder, match.path)} for match in matches],
        }
        for query, matches in answers.matches
    ]
    about = {"index": answers.index, "folder": answers.folder, "kind": answers.kind, "images": answers.images}
    return json.dumps({**about, "queries": queries}, indent=2)
