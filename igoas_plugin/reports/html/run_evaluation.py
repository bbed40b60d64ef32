"""Evaluates a run anew and gathers what the page shows: metrics and rank lists belong together."""

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple

from torch import nn

from igoas_plugin.config import flat_keys, get_cfg, value_of
from igoas_plugin.datasets.data_report import SetReport, published_text, report
from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.evaluation.retrieval import Retrieval, retrieve
from igoas_plugin.inference.fingerprint import fingerprint
from igoas_plugin.reports.comparison.provenance import made_by

from . import curve_charts, metric_rows
from .activation_panels import QueryMaps, maps_of
from .charts import Chart
from .queries import Group, Query, folder_of, grouped, name_below, queries_of
from .rank_lists import RankList, choose, rank_lists
from .run_folder import RunFolder

WITH_MAPS = ("worst", "best")
# What an evaluation does beside ranking by distance: published figures are without it, unless they say otherwise
EXTRAS = {"TEST.RERANK.ENABLED": "re-ranking", "TEST.AQE.ENABLED": "query expansion", "TEST.FLIP.ENABLED": "flipping"}


class Setting(NamedTuple):
    """A config key with its value and its default."""

    key: str
    value: str
    default: str


class Split(NamedTuple):
    """What one split of a data set holds, as text, beside what was published."""

    data_set: str
    split: str
    images: str
    identities: str
    cameras: str
    published: str
    state: str


class Shown(NamedTuple):
    """A query with pictures; `maps` is None where it has no response maps."""

    ranked: RankList
    maps: QueryMaps | None


@dataclass(frozen=True)
class TestSet:
    """What the page shows of one test set.

    Args:
        name: registered name of the data set.
        measured: {metric: value in %}.
        rows: of the table of metrics.
        differences: from what the run recorded, a sentence each.
        cmc: chart.
        cameras, identities: mean AP of the queries of each.
        queries: all, the worst first.
        unanswered: how many have no image of their identity in another camera.
        gallery: number of its images.
        folders: of the queries and of the gallery, below that of the data sets.
        shown: {"worst", "best", "random": queries with pictures}.
    """

    name: str
    measured: dict[str, float]
    rows: list[metric_rows.Row]
    differences: list[str]
    cmc: Chart
    cameras: list[Group]
    identities: list[Group]
    queries: list[Query]
    unanswered: int
    gallery: int
    folders: tuple[str, str]
    shown: dict[str, list[Shown]]

    @property
    def pictured(self) -> dict[int, str]:
        """{position of a query that is shown with pictures: "worst", "best" or "random"}."""
        return {each.ranked.query.position: kind for kind, shown in self.shown.items() for each in shown}


@dataclass(frozen=True)
class Evaluation:
    """What the page shows.

    Args:
        run: the folder that was evaluated.
        title: of the run.
        sha256: of the weights but classifiers.
        maker: versions and machine.
        time: of the evaluation, UTC.
        extras: what the evaluation does beside ranking by distance, in words.
        settings: config keys that differ from their defaults.
        config: the whole config as YAML.
        splits: counts of the data sets.
        test_sets: in the order of DATASETS.TESTS.
        severity: charts of this evaluation's own test sets.
        curve: charts of occlusion_curve.csv.
    """

    run: RunFolder
    title: str
    sha256: str
    maker: str
    time: str
    extras: list[str]
    settings: list[Setting]
    config: str
    splits: list[Split]
    test_sets: list[TestSet]
    severity: list[Chart]
    curve: list[Chart]


def evaluate(run: RunFolder, model: nn.Module, shown: int) -> Evaluation:
    """Evaluates a run on each of its test sets.

    Args:
        run: as open_run() gives it.
        model: with its weights, in evaluation mode.
        shown: how many of the worst, the best and random queries are shown with pictures.

    Raises:
        InputError: a data set is missing or damaged, or an image cannot be read.
    """
    cfg, root = run.cfg, os.getenv("FASTREID_DATASETS", "datasets")
    names = dict.fromkeys(cfg.DATASETS.TESTS)
    test_sets = [test_set(run, model, retrieve(cfg, model, name), root, shown) for name in names]
    own = curve_charts.severity_points({each.name: each.measured for each in test_sets})
    return Evaluation(
        run=run,
        title=os.path.basename(os.path.abspath(run.path)),
        sha256=fingerprint(cfg, model).weights,
        maker=made_by(cfg.MODEL.DEVICE),
        time=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        extras=[words for key, words in EXTRAS.items() if value_of(cfg, key)],
        settings=settings_of(cfg),
        config=cfg.dump(),
        splits=splits_of(cfg, root),
        test_sets=test_sets,
        severity=curve_charts.severity_charts(own),
        curve=curve_charts.severity_charts(run.curve),
    )


def test_set(run: RunFolder, model: nn.Module, retrieval: Retrieval, root: str, shown: int) -> TestSet:
    """What the page shows of a test set.

    Args:
        run, model, shown: as evaluate() takes them.
        retrieval: of the test set.
        root: the folder that holds the data sets.
    """
    queries = queries_of(retrieval)
    measured = {name: retrieval.metrics[name] for name in METRICS}
    return TestSet(
        name=retrieval.name,
        measured=measured,
        rows=metric_rows.rows_of(run, retrieval.name, measured),
        differences=metric_rows.differences(run, retrieval.name, measured),
        cmc=curve_charts.cmc_chart(retrieval.name, [100 * float(share) for share in retrieval.cmc]),
        cameras=grouped(queries, "camera"),
        identities=grouped(queries, "identity"),
        queries=queries,
        unanswered=sum(query.ap is None for query in queries),
        gallery=len(retrieval.gallery),
        folders=tuple(name_below(root, folder_of(items)) for items in (retrieval.query, retrieval.gallery)),
        shown={
            kind: pictured(run.cfg, model if kind in WITH_MAPS else None, retrieval, chosen)
            for kind, chosen in choose(queries, shown).items()
        },
    )


def pictured(cfg, model: nn.Module | None, retrieval: Retrieval, queries: list[Query]) -> list[Shown]:
    """These queries with their rank lists, and with response maps where a model is given."""
    ranked = rank_lists(retrieval, queries)
    maps = [None] * len(queries)
    if model is not None and queries:
        paths = [retrieval.query[query.position][0] for query in queries]
        maps = maps_of(cfg, model, paths, [query.file for query in queries])
    return [Shown(*each) for each in zip(ranked, maps, strict=True)]


def settings_of(cfg) -> list[Setting]:
    """The keys that differ from the defaults of the host and the plugin."""
    default = get_cfg()
    return [
        Setting(key, str(value_of(cfg, key)), str(value_of(default, key)))
        for key in flat_keys(cfg)
        if value_of(cfg, key) != value_of(default, key)
    ]


def splits_of(cfg, root: str) -> list[Split]:
    """What was trained on and what is tested on."""
    wanted = [(name, ("train",)) for name in cfg.DATASETS.NAMES]
    wanted += [(name, ("query", "gallery")) for name in cfg.DATASETS.TESTS]
    reports = {name: report(name, root) for name in dict.fromkeys(name for name, _ in wanted)}
    return [split_row(reports[name], split) for name, splits in dict.fromkeys(wanted) for split in splits]


def split_row(found: SetReport, split: str) -> Split:
    counts = found.splits.get(split)
    if counts is None:
        return Split(found.name, split, "-", "-", "-", "-", found.why or "it has none")
    numbers = (f"{number:,}" for number in (counts.images, counts.identities, counts.cameras))
    return Split(found.name, split, *numbers, published_text(counts.published), counts.state)
