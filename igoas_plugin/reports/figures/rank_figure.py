"""Figure of rank lists: what a model finds for a query, right and wrong."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.market_style import Item
from igoas_plugin.datasets.reading import open_data, read_split
from igoas_plugin.evaluation.results import mark_of, steps_of
from igoas_plugin.evaluation.retrieval import NEAREST, Retrieval, retrieve
from igoas_plugin.fastreid_fixes.images import read_image
from igoas_plugin.inference.trained import build_trained
from igoas_plugin.preflight import check_test_data
from igoas_plugin.reports.rank_lists import Found, Query, RankList, queries_of, query_at, rank_list

from .figure_file import as_label, show_image
from .pixel_images import drawn, first_test_set

CHOICES = ("random", "worst", "best")  # "worst" and "best" by average precision
# Colour and line of the frame, and a mark that says the same without colours
FRAMES = {
    "right": ("#1a9641", "-", "✓"),
    "wrong": ("#d7191c", "-", "✗"),
    "junk": ("#7f7f7f", (0, (2, 1.5)), "same camera"),
}
HEIGHT, TEXT = 1.8, 0.9  # inches: height of an image, and of the lines above and below it
NARROWEST, WIDEST = 0.9, HEIGHT  # inches: widths of a column, whose text must fit
LEGEND = "green ✓: right; red ✗: wrong"
JUNK_LEGEND = "; grey, dashed: the query's identity in its own camera, which no metric counts"


def ranks_picture(cfg, words: Sequence[str], count: int, top: int, seed: int, junk: bool) -> Figure:
    """Draws rank lists of a model on the first of DATASETS.TESTS.

    Args:
        cfg: config of the model, checked by check_trained().
        words: one of CHOICES, or names of queries, see find_query().
        count: number of queries, if they are not named.
        top: number of images in a rank list, at most NEAREST.
        junk: whether images of the query's identity in its camera are shown.

    Raises:
        InputError: `top` is too large, a query is unknown, the data set is missing, or the weights do not fit.
    """
    if top > NEAREST:
        raise InputError(f"--top must be 1 to {NEAREST}, got {top}")
    name = first_test_set(cfg)
    check_test_data(name, cfg.TEST.CAMERA_RULE, cfg.TEST.NFC.ENABLED)
    [choice, *others] = words
    named = None if choice in CHOICES and not others else find_queries(words, name)
    retrieval = retrieve(cfg, build_trained(cfg), name)
    if named is None:
        queries = chosen(retrieval, choice, count, seed)
    else:
        queries, choice = [query_at(retrieval, position) for position in named], "named"
    steps = steps_of(cfg)
    title = "\n".join(
        [
            f"{name}: {len(queries)} {f'random (seed {seed})' if choice == 'random' else choice} of "
            f"{len(retrieval.query)} queries; "
            f"Rank-1 {retrieval.metrics['Rank-1']:.1f} %, mAP {retrieval.metrics['mAP']:.1f} %",
            f"{as_label(cfg.MODEL.WEIGHTS)}; distances: {cfg.TEST.METRIC}{f', {mark_of(steps)}' if steps else ''}",
            LEGEND + (JUNK_LEGEND if cfg.TEST.CAMERA_RULE else "; images of the query's own camera are ranked too"),
        ]
    )
    return draw_ranks([rank_list(retrieval, query, top, junk) for query in queries], title)


def find_queries(words: Sequence[str], name: str) -> list[int]:
    """Returns the positions of named queries of a data set, see find_query()."""
    query = read_split(name, open_data(name), "query")
    return [find_query(word, name, query) for word in words]


def find_query(word: str, name: str, query: list[Item]) -> int:
    """Returns the position of a named query.

    Args:
        word: its position, counted from 0, or its path, or the end of its path.

    Raises:
        InputError: no query has that name, or several have it.
    """
    if word.isdecimal():
        if int(word) >= len(query):
            raise InputError(f"--queries {word}: the queries of {name} are 0 to {len(query) - 1}")
        return int(word)
    end = os.path.join(os.sep, os.path.normpath(word))
    found = [position for position, (path, *_) in enumerate(query) if os.path.abspath(path).endswith(end)]
    if len(found) != 1:
        raise InputError(
            f"--queries {word}: {len(found) or 'no'} queries of {name} end with that; take {', '.join(CHOICES)}, a "
            f"position from 0 to {len(query) - 1}, or a longer part of a path such as {query[0][0]}"
        )
    return found[0]


def chosen(retrieval: Retrieval, choice: str, count: int, seed: int) -> list[Query]:
    """Chooses up to `count` queries that have a possible match.

    Args:
        choice: one of CHOICES. "worst" starts with the worst query, "best" with the best one.
        seed: seed of "random".
    """
    worst = [query for query in queries_of(retrieval) if query.ap is not None]
    if choice == "random":
        return drawn(sorted(worst), count, seed)
    return (worst if choice == "worst" else worst[::-1])[:count]


def draw_ranks(lists: Sequence[RankList], title: str) -> Figure:
    """Draws a row for each query: the query, then the images that it found, framed and marked, with their distance.

    A first match behind the images of a list follows them, with its rank. The images have one height and their own
    proportions; only an image that is wider than high is lower.
    """
    rows = [[*ranked.found, *([ranked.later] if ranked.later else [])] for ranked in lists]
    images = [
        [np.asarray(read_image(each.path)) for each in (ranked.query, *found)]
        for ranked, found in zip(lists, rows, strict=True)
    ]
    columns = max(map(len, images))
    widths = [column_width([row[column] for row in images if column < len(row)]) for column in range(columns)]
    largest = max((abs(each.match.distance) for found in rows for each in found), default=0)
    decimals = 3 if largest < 10 else 1
    size = max(sum(widths) + 0.1 * columns + 0.2, 8), len(lists) * (HEIGHT + TEXT) + 0.7
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.07)  # between the text of two rows
    figure.suptitle(title, fontsize="small")
    panels = figure.subplots(len(lists), columns, squeeze=False, width_ratios=widths)
    for row, (query, _, later), found, shown in zip(panels, lists, rows, images, strict=True):
        for panel in row[len(shown) :]:
            panel.set_axis_off()
        for panel, image in zip(row, shown, strict=False):
            show_image(panel, image)
        ap = "no match" if query.ap is None else f"AP {query.ap:.1f} %"
        row[0].set_title(f"query {query.position}\nidentity {as_label(str(query.identity))}", fontsize="x-small")
        row[0].set_xlabel(f"{ap}\ncam {as_label(str(query.camera))}", fontsize="x-small")
        for panel, each in zip(row[1:], found, strict=False):
            frame(panel, each, decimals, "first match\n" if each is later else "")
    return figure


def column_width(images: Sequence[np.ndarray]) -> float:
    """Returns the width in inches of a column with these images, (H, W, 3), each of the height HEIGHT."""
    widest = max(image.shape[1] / image.shape[0] for image in images)
    return min(max(HEIGHT * widest, NARROWEST), WIDEST)


def frame(panel: Axes, found: Found, decimals: int, heading: str = "") -> None:
    """Draws the frame of a found image, its mark and rank above, its distance and camera below.

    Args:
        decimals: decimals of the distance, the same for all images of a figure.
        heading: text above mark and rank.
    """
    colour, line, mark = FRAMES[found.match.state]
    for spine in panel.spines.values():
        spine.set(color=colour, linestyle=line, linewidth=3)
    heading += mark if found.match.rank is None else f"{mark} {found.match.rank}"
    panel.set_title(heading, fontsize="x-small", color=colour)
    panel.set_xlabel(f"{found.match.distance:.{decimals}f}\ncam {as_label(str(found.camera))}", fontsize="x-small")
