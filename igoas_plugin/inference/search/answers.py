"""Answers of a search in a gallery index, as text or JSON."""

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

logger = logging.getLogger(f"fastreid.{__name__}")  # below fast-reid's logger, so that it prints where that prints


class Match(NamedTuple):
    """Crop that a search found."""

    rank: int  # place among the matches, from 1
    score: float  # cosine similarity to the query, in [-1, 1]; approximate with a pq index
    path: str  # path below the folder of the gallery


@dataclass(frozen=True)
class Answers:
    """Matches of all queries in a gallery index."""

    index: str  # path of the gallery index
    folder: str  # folder of the crops
    kind: str  # kind of the index
    images: int  # number of crops in it
    matches: list[tuple[str, list[Match]]]  # path of each query and its matches, best first


def search(
    file: GalleryFile, pictures: list[str], top: int, predictor: FeatureExtractor, folder: str | None = None
) -> Answers:
    """Finds the crops that are most similar to each picture, and logs how long that took.

    Args:
        file: gallery index.
        pictures: paths of the queries.
        top: number of matches for each query; all crops if there are fewer.
        predictor: model that computed the descriptors of the index.
        folder: folder of the crops if they were moved.

    Raises:
        InputError: the index is damaged or of another model, a picture cannot be read, or `folder` is no folder.
    """
    folder = file.folder(folder)
    file.require(predictor)
    if not file.finished:
        logger.warning("%s is not finished: the command that made it goes on where it was stopped", file.path)
    index, started = file.index(), time.perf_counter()
    descriptors, described = predictor(pictures), time.perf_counter()
    found, searched = index.search(descriptors, top), time.perf_counter()
    logger.info(
        f"{len(pictures)} image{'s' * (len(pictures) != 1)} described in {1000 * (described - started):.0f} ms, "
        f"{len(index):,} searched in {1000 * (searched - described):.1f} ms"
    )
    matches = [(picture, matches_of(*each, file)) for picture, *each in zip(pictures, *found, strict=True)]
    return Answers(file.path, folder, file.gallery.kind, len(index), matches)


def matches_of(scores: np.ndarray, positions: np.ndarray, file: GalleryFile) -> list[Match]:
    """Returns the matches of one query from the scores and positions of an index; position -1 is no match."""
    crops, scores = file.gallery.crops, scores[positions >= 0].clip(-1, 1)
    found = zip(scores.tolist(), positions.tolist(), strict=False)  # those of -1 are at the end
    return [Match(rank, round(score, 6), crops[position].path) for rank, (score, position) in enumerate(found, start=1)]


def as_text(answers: Answers) -> str:
    """Returns one table for each query."""
    lines = [f"{answers.images:,} images of {printable(answers.folder)}, index {answers.kind}"]
    for query, matches in answers.matches:
        lines += ["", printable(query), "rank    score  image"]
        lines += [f"{match.rank:4}  {match.score:7.4f}  {printable(match.path)}" for match in matches]
    return "\n".join(lines)


def as_json(answers: Answers) -> str:
    """Returns the answers as one JSON object; bytes of a name that are not UTF-8 become Python's surrogate escapes."""
    queries = [
        {
            "query": query,
            "matches": [{**match._asdict(), "file": os.path.join(answers.folder, match.path)} for match in matches],
        }
        for query, matches in answers.matches
    ]
    about = {"index": answers.index, "folder": answers.folder, "kind": answers.kind, "images": answers.images}
    return json.dumps({**about, "queries": queries}, indent=2)
