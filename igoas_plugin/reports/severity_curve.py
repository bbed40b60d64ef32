"""Curve of a model's ranking as more of the queries is hidden: OccludedMarket1501 over all severities and kinds."""

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from fastreid.data.common import CommDataset
from fastreid.data.transforms import build_transforms
from fastreid.evaluation import ReidEvaluator
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.datasets.occluded_market.occlude import KINDS, OCCLUDERS, SEVERITIES, hidden_share, kind_of
from igoas_plugin.datasets.occluded_market.occluded_market_1501 import QueryOccluder, by_name, market_in, name_of
from igoas_plugin.evaluation.descriptors import describe
from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.inference.trained import build_trained
from igoas_plugin.modeling.fast_inference import for_evaluation

from .figures.figure_file import as_label, save_figure

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of fast-reid's logger, so it has the same handlers

VERSION = 2  # of the severities
COLUMNS = ("model", "kind", "hidden share %", *METRICS)
DRAWN = ("Rank-1", "mAP")  # metrics in the figures


@dataclass(frozen=True)
class Point:
    """Evaluation of a model with one share of each query hidden; a row of the CSV file.

    Args:
        kind: kind of the occlusion, one of KINDS.
        hidden: share of each query that is hidden or cut off, in %.
        metrics: METRICS, in %.
    """

    model: str
    kind: str
    hidden: int
    metrics: dict[str, float]


class OccludedQueries(CommDataset):
    """Queries of Market-1501 behind one kind of occlusion at one severity, occluded as they are read.

    Args:
        severity: 0 to 5.
        kind: one of KINDS.
        transform: fast-reid's transform of a PIL image.
    """

    def __init__(self, occluder: QueryOccluder, severity: int, kind: str, transform):
        super().__init__(occluder.items, transform, relabel=False)
        self.occluder, self.severity, self.kind = occluder, severity, kind

    def __getitem__(self, index: int) -> dict:
        path, identity, camera = self.img_items[index]
        image = Image.fromarray(self.occluder.occluded(path, self.severity, self.kind, VERSION))
        return {"images": self.transform(image), "targets": identity, "camids": camera, "img_paths": path}


def occlusion_curve(name: str, cfg, root: str) -> list[Point]:
    """Evaluates a model on version 2 of OccludedMarket1501 at every severity and with every kind of occlusion.

    The descriptors of the gallery are computed once; fast-reid's evaluator ranks. At severity 3 the kind "all" is
    exactly the data set OccludedMarket1501V2S3.

    Args:
        cfg: config of the model. DATASETS is not read.
        root: folder that holds Market-1501.

    Returns:
        A point for each kind and severity, in the order of KINDS and SEVERITIES. With nothing hidden it is the same for
        all kinds.

    Raises:
        InputError: Market-1501 is not in `root`, an image cannot be read, or the weights do not fit.
    """
    market, model = market_in(root), for_evaluation(cfg, build_trained(cfg))
    occluder, transform = QueryOccluder(market.query), build_transforms(cfg, is_train=False)
    gallery = describe(cfg, model, CommDataset(by_name(market.gallery), transform, relabel=False))
    kinds = np.array([kind_of(name_of(path)) for path, _, _ in occluder.items])

    def described(severity: int, kind: str) -> dict[str, torch.Tensor]:
        return describe(cfg, model, OccludedQueries(occluder, severity, kind, transform))

    def ranked(query: dict[str, torch.Tensor]) -> dict[str, float]:
        evaluator = ReidEvaluator(cfg, len(query["pids"]))
        evaluator._predictions = [query, gallery]
        return {metric: float(value) for metric, value in evaluator.evaluate().items()}

    metrics = {}
    for severity in SEVERITIES:
        if severity == 0:
            metrics |= dict.fromkeys([(kind, 0) for kind in KINDS], ranked(described(0, "all")))
            continue
        single = {kind: described(severity, kind) for kind in OCCLUDERS}
        metrics |= {(kind, severity): ranked(query) for kind, query in single.items()}
        metrics["all", severity] = overall = ranked(mixed_kinds(single, kinds))
        logger.info("%s, severity %d: Rank-1 %.1f, mAP %.1f", name, severity, overall["Rank-1"], overall["mAP"])
    return [
        Point(name, kind, hidden_share(severity, VERSION), metrics[kind, severity])
        for kind in KINDS
        for severity in SEVERITIES
    ]


def mixed_kinds(single: dict[str, dict[str, torch.Tensor]], kinds: np.ndarray) -> dict[str, torch.Tensor]:
    """Returns the queries of the kind "all": each with the kind of occlusion that its file name determines."""
    first = next(iter(single.values()))
    mixed = {key: value.clone() for key, value in first.items()}
    for kind, query in single.items():
        rows = torch.from_numpy(kinds == kind)
        mixed["feats"][rows] = query["feats"][rows]
    return mixed


def write_csv(points: Sequence[Point], path: str) -> None:
    """Writes a row for each point."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for point in points:
        metrics = (f"{point.metrics[metric]:.2f}" for metric in METRICS)
        writer.writerow([point.model, point.kind, point.hidden, *metrics])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def read_csv(path: str) -> list[Point]:
    """Reads the points of a file that write_csv() wrote; raises InputError for any other file."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        metrics = [{metric: float(row[metric]) for metric in METRICS} for row in rows]
        points = [
            Point(row["model"], row["kind"], int(row["hidden share %"]), own)
            for row, own in zip(rows, metrics, strict=True)
        ]
    except (KeyError, TypeError, ValueError):
        points = []
    if not points or any(point.kind not in KINDS for point in points):
        raise InputError(f"{path} is damaged: remove it, or write it again by tools/occlusion_curve.py")
    return points


def plot(points: Sequence[Point], path: str) -> None:
    """Writes a PNG file with a column for each kind, and a line for each model."""
    figure = Figure(figsize=(3 * len(KINDS), 6), layout="tight")
    panels = figure.subplots(2, len(KINDS), sharex=True, sharey="row")
    for column, kind in zip(panels.T, KINDS, strict=True):
        draw_severity(column, [point for point in points if point.kind == kind])
    panels[0, 0].legend(fontsize="small")
    save_figure(figure, path)


def draw_severity(panels: Sequence[Axes], points: Sequence[Point]) -> None:
    """Draws Rank-1 on the first panel and mAP on the second, by hidden share, with a line for each model.

    Args:
        points: points of one kind.
    """
    for panel, metric in zip(panels, DRAWN, strict=True):
        for model in dict.fromkeys(point.model for point in points):
            line = [(point.hidden, point.metrics[metric]) for point in points if point.model == model]
            panel.plot(*zip(*line, strict=True), "o-", label=as_label(model))
        panel.set(ylim=(0, None), xticks=sorted({point.hidden for point in points}), ylabel=f"{metric} (%)")
        panel.grid(alpha=0.3)
    panels[0].set_title(kind_title(points[0].kind))
    panels[1].set_xlabel("hidden share of each query (%)")


def kind_title(kind: str) -> str:
    return "all kinds" if kind == "all" else kind
