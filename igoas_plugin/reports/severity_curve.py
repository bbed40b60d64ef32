"""How a model's ranking degrades as more of the queries is hidden: OccludedMarket1501 over all severities and kinds."""

import csv
import io
import logging
from dataclasses import dataclass

import numpy as np
import torch
from fastreid.data.common import CommDataset
from fastreid.data.transforms import build_transforms
from fastreid.evaluation import ReidEvaluator
from matplotlib.figure import Figure
from PIL import Image

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.datasets.occluded_market.occlude import KINDS, OCCLUDERS, SEVERITIES, SHARES, kind_of
from igoas_plugin.datasets.occluded_market.occluded_market_1501 import (
    QueryOccluder,
    by_name,
    market_in,
    name_of,
)
from igoas_plugin.evaluation.descriptors import describe
from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.inference.trained import build_trained
from igoas_plugin.modeling.fast_inference import for_evaluation

from .figures.figure_file import save_figure

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are

COLUMNS = ("model", "kind", "severity", "hidden share %", *METRICS)


@dataclass(frozen=True)
class Point:
    """One evaluation: a row of the CSV file.

    Args:
        model: its name.
        kind: of the occlusion, one of KINDS.
        severity: 0 to 5.
        metrics: of METRICS, in %.
    """

    model: str
    kind: str
    severity: int
    metrics: dict[str, float]

    @property
    def row(self) -> tuple:
        share = round(100 * SHARES[self.severity])
        return self.model, self.kind, self.severity, share, *(f"{self.metrics[metric]:.2f}" for metric in METRICS)


class OccludedQueries(CommDataset):
    """The queries of Market-1501 behind one kind of occlusion at one severity, made as they are read.

    Args:
        occluder: makes them.
        severity: 0 to 5.
        kind: one of KINDS.
        transform: the host's, of a PIL image.
    """

    def __init__(self, occluder: QueryOccluder, severity: int, kind: str, transform):
        super().__init__(occluder.items, transform, relabel=False)
        self.occluder, self.severity, self.kind = occluder, severity, kind

    def __getitem__(self, index: int) -> dict:
        path, identity, camera = self.img_items[index]
        image = Image.fromarray(self.occluder.occluded(path, self.severity, self.kind))
        return {"images": self.transform(image), "targets": identity, "camids": camera, "img_paths": path}


def occlusion_curve(name: str, cfg, root: str) -> list[Point]:
    """Evaluates a model on OccludedMarket1501 at every severity and with every kind of occlusion.

    Descriptors of the gallery are made once, those of the queries once a kind and severity; the host's evaluator ranks.
    At severity 3 the kind "all" is the data set OccludedMarket1501, to the bit.

    Args:
        name: of the model, for the rows.
        cfg: of the model; DATASETS is not read.
        root: the folder that holds Market-1501.

    Returns:
        A point a kind and severity, in the order of KINDS and SEVERITIES; severity 0 is the same for all kinds.

    Raises:
        InputError: Market-1501 is not in `root`, an image cannot be read, or the weights do not fit.
    """
    market, model = market_in(root), for_evaluation(cfg, build_trained(cfg))
    occluder, transform = QueryOccluder(market.query), build_transforms(cfg, is_train=False)

    def ranked(query: dict[str, torch.Tensor]) -> dict[str, float]:
        evaluator = ReidEvaluator(cfg, len(query["pids"]))
        evaluator._predictions = [query, gallery]
        return {metric: float(value) for metric, value in evaluator.evaluate().items()}

    gallery = describe(cfg, model, CommDataset(by_name(market.gallery), transform, relabel=False))
    kinds = np.array([kind_of(name_of(path)) for path, _, _ in occluder.items])
    metrics = {}
    for severity in SEVERITIES:
        if severity == 0:
            metrics |= dict.fromkeys(
                ((kind, 0) for kind in KINDS),
                ranked(describe(cfg, model, OccludedQueries(occluder, 0, "all", transform))),
            )
            continue
        single = {
            kind: describe(cfg, model, OccludedQueries(occluder, severity, kind, transform)) for kind in OCCLUDERS
        }
        metrics |= {(kind, severity): ranked(query) for kind, query in single.items()}
        metrics["all", severity] = ranked(each_of_its_kind(single, kinds))
        logger.info(
            "%s, severity %d: Rank-1 %.1f, mAP %.1f",
            name,
            severity,
            metrics["all", severity]["Rank-1"],
            metrics["all", severity]["mAP"],
        )
    return [Point(name, kind, severity, metrics[kind, severity]) for kind in KINDS for severity in SEVERITIES]


def each_of_its_kind(single: dict[str, dict[str, torch.Tensor]], kinds: np.ndarray) -> dict[str, torch.Tensor]:
    """The queries of the kind "all": of each query what the kind that its name gives it made."""
    first = next(iter(single.values()))
    mixed = {key: value.clone() for key, value in first.items()}
    for kind, query in single.items():
        rows = torch.from_numpy(kinds == kind)
        mixed["feats"][rows] = query["feats"][rows]
    return mixed


def write_csv(points: list[Point], path: str) -> None:
    """One row a point; replaced as a whole."""
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *(point.row for point in points)])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def read_csv(path: str) -> list[Point]:
    """The points of a file that write_csv() wrote; raises InputError where it is something else."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        points = [
            Point(row["model"], row["kind"], int(row["severity"]), {metric: float(row[metric]) for metric in METRICS})
            for row in rows
        ]
    except (KeyError, TypeError, ValueError):
        points = []
    if not points or any(point.kind not in KINDS or point.severity not in SEVERITIES for point in points):
        raise InputError(f"{path} is damaged: remove it, or write it again by tools/occlusion_curve.py")
    return points


def plot(points: list[Point], path: str) -> None:
    """Rank-1 above and mAP below against severity, one column a kind, one line a model; a PNG file."""
    figure = Figure(figsize=(3 * len(KINDS), 6), layout="tight")
    panels = figure.subplots(2, len(KINDS), sharex=True, sharey="row", squeeze=False)
    for panel_row, metric in zip(panels, ("Rank-1", "mAP"), strict=True):
        for panel, kind in zip(panel_row, KINDS, strict=True):
            for model in dict.fromkeys(point.model for point in points):
                line = [point for point in points if (point.model, point.kind) == (model, kind)]
                panel.plot(
                    [point.severity for point in line], [point.metrics[metric] for point in line], "o-", label=model
                )
            panel.set(ylim=(0, None), xticks=list(SEVERITIES))
            panel.grid(alpha=0.3)
        panel_row[0].set_ylabel(f"{metric} (%)")
    for panel, kind in zip(panels[0], KINDS, strict=True):
        panel.set_title("all kinds" if kind == "all" else kind)
    for panel in panels[-1]:
        panel.set_xlabel("severity (hidden share 0 to 50 %)")
    panels[0][0].legend(fontsize="small")
    save_figure(figure, path)
