"""Rank lists: what a model finds for a query, right and wrong."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.market_style import Item
from igoas_plugin.datasets.reading import open_data, read_split
from igoas_plugin.evaluation.retrieval import NEAREST, Match, Retrieval, retrieve
from igoas_plugin.fastreid_fixes.images import read_image
from igoas_plugin.inference.trained import build_trained
from igoas_plugin.preflight import check_test_data

from .figure_file import as_label, show_image
from .pixel_images import drawn, first_test_set

CHOICES = ("random", "worst", "best")  # by average precision, but the first
# colour and line of the frame, and a mark that tells the same without colours
FRAMES = {
    "right": ("#1a9641", "-", "✓"),
    "wrong": ("#d7191c", "-", "✗"),
    "junk": ("#7f7f7f", (0, (2, 1.5)), "same camera"),
}
CELL, TEXT = 1.05, 0.65  # inches: an image's width, and the lines above and below it
LEGEND = "green ✓: right; red ✗: wrong; grey, dashed: the query's identity in its own camera, which no metric counts"


@dataclass(frozen=True)
class Found:
    """A gallery image in a rank list.

    Args:
        image: RGB, (H, W, 3), uint8.
        camera: counted from 0.
        match: rank, distance and state.
    """

    image: np.ndarray
    camera: int
    match: Match


@dataclass(frozen=True)
class RankList:
    """A query and what it found.

    Args:
        position: of the query in its data set.
        image: RGB, (H, W, 3), uint8.
        identity, camera: of the query; the camera is counted from 0.
        ap: average precision in [0, 1]; NaN where nothing could match.
        found: best first.
    """

    position: int
    image: np.ndarray
    identity: int
    camera: int
    ap: float
    found: list[Found]


def ranks_picture(cfg, words: Sequence[str], count: int, top: int, seed: int, junk: bool) -> Figure:
    """Rank lists of a model on the first of DATASETS.TESTS.

    Args:
        cfg: of the model, checked by check_trained().
        words: one of CHOICES, or queries as find_queries() takes them.
        count: queries, where they are not named.
        top: images of a rank list, up to NEAREST.
        seed: of the random choice.
        junk: whether images of the query's identity in its camera are shown.

    Raises:
        InputError: `top` is larger, a query is unknown, the data set is missing, or the weights do not fit.
    """
    if top > NEAREST:
        raise InputError(f"--top must be 1 to {NEAREST}, got {top}")
    name = first_test_set(cfg)
    check_test_data(name)
    [choice, *others] = words
    named = None if choice in CHOICES and not others else find_queries(words, name)
    retrieval = retrieve(cfg, build_trained(cfg), name)
    queries = chosen(retrieval, choice, count, seed) if named is None else named
    told = "named" if named is not None else f"random (seed {seed})" if choice == "random" else choice
    title = "\n".join(
        [
            f"{name}: {len(queries)} {told} of {len(retrieval.query)} queries; "
            f"Rank-1 {retrieval.metrics['Rank-1']:.1f} %, mAP {retrieval.metrics['mAP']:.1f} %",
            f"{as_label(cfg.MODEL.WEIGHTS)}; "
            f"distances: {cfg.TEST.METRIC}{', re-ranked' if cfg.TEST.RERANK.ENABLED else ''}",
            LEGEND,
        ]
    )
    return draw_ranks([rank_list(retrieval, query, top, junk) for query in queries], title)


def find_queries(words: Sequence[str], name: str) -> list[int]:
    """Positions of named queries.

    Args:
        words: each a position, counted from 0, or a path, or the end of a path.
        name: of the data set.

    Raises:
        InputError: there is no such query, or there are several.
    """
    query = read_split(name, open_data(name), "query")
    return [find_query(word, name, query) for word in words]


def find_query(word: str, name: str, query: list[Item]) -> int:
    if word.isdecimal():
        if int(word) >= len(query):
            raise InputError(f"--queries {word}: the queries of {name} are 0 to {len(query) - 1}")
        return int(word)
    end = os.path.join(os.sep, os.path.normpath(word))
    found = [position for position, (path, *_) in enumerate(query) if os.path.abspath(path).endswith(end)]
    if not found:
        raise InputError(
            f"--queries {word}: no query of {name} has that name; take {', '.join(CHOICES)}, a position from 0 to "
            f"{len(query) - 1}, or a path such as {query[0][0]}"
        )
    if len(found) > 1:
        raise InputError(f"--queries {word}: {len(found)} queries of {name} end with that, write more of the path")
    return found[0]


def chosen(retrieval: Retrieval, choice: str, count: int, seed: int) -> list[int]:
    """Positions of queries that could be answered.

    Args:
        retrieval: of the model.
        choice: one of CHOICES; "worst" and "best" come in that order.
        count: how many, at most.
        seed: of "random".
    """
    worst = retrieval.by_quality().tolist()
    by_choice = {
        "random": lambda: drawn(sorted(worst), count, seed),
        "worst": lambda: worst,
        "best": lambda: worst[::-1],
    }
    return by_choice[choice]()[:count]


def rank_list(retrieval: Retrieval, query: int, top: int, junk: bool) -> RankList:
    """The rank list of the query at a position, its images read from their files."""
    path, identity, camera = retrieval.query[query]
    matches = [match for match in retrieval.matches(query) if junk or match.state != "junk"]
    found = []
    for match in matches[:top]:
        gallery_path, _, gallery_camera = retrieval.gallery[match.position]
        found.append(Found(pixels(gallery_path), gallery_camera, match))
    return RankList(query, pixels(path), identity, camera, float(retrieval.ap[query]), found)


def pixels(path: str) -> np.ndarray:
    return np.asarray(read_image(path))


def draw_ranks(lists: list[RankList], title: str) -> Figure:
    """A row a query: the query, then what it found, framed and marked, with distance and camera below.

    Cameras have the numbers that file names give them, from 1.

    Args:
        lists: at least one.
        title: of the figure.
    """
    columns = 1 + max(len(each.found) for each in lists)
    heights = [max(map(height_of, [each.image, *(found.image for found in each.found)])) for each in lists]
    size = max(CELL * columns + 0.3, 8), CELL * sum(heights) + TEXT * len(lists) + 0.7
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize="small")
    panels = figure.subplots(len(lists), columns, squeeze=False, height_ratios=[CELL * each + TEXT for each in heights])
    for row, each in zip(panels, lists, strict=True):
        for panel in row[1 + len(each.found) :]:
            panel.set_axis_off()
        show_image(row[0], each.image)
        ap = "no match in\nanother camera" if np.isnan(each.ap) else f"AP {100 * each.ap:.1f} %"
        row[0].set_title(f"query {each.position}\nidentity {each.identity}", fontsize="x-small")
        row[0].set_xlabel(f"{ap}\ncam {each.camera + 1}", fontsize="x-small")
        for panel, found in zip(row[1:], each.found, strict=False):
            show_found(panel, found)
    return figure


def height_of(image: np.ndarray) -> float:
    """Of an image whose width is 1."""
    return image.shape[0] / image.shape[1]


def show_found(panel: Axes, found: Found) -> None:
    colour, line, mark = FRAMES[found.match.state]
    show_image(panel, found.image)
    for spine in panel.spines.values():
        spine.set(color=colour, linestyle=line, linewidth=3)
    heading = mark if found.match.rank is None else f"{mark} {found.match.rank}"
    panel.set_title(heading, fontsize="x-small", color=colour)
    panel.set_xlabel(f"{found.match.distance:.3g}\ncam {found.camera + 1}", fontsize="x-small")
