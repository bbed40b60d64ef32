"""Evaluation of a run, and its page: metrics, charts, rank lists and activation maps of the same descriptors."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple

from torch import nn

from igoas_plugin.config import flat_keys, get_cfg, value_of
from igoas_plugin.core.version import __version__
from igoas_plugin.datasets.data_report import published_text, report
from igoas_plugin.evaluation.results import METRICS, mark_of, recorded_settings, shown_name, steps_of
from igoas_plugin.evaluation.retrieval import NEAREST, Retrieval, retrieve
from igoas_plugin.reports.comparison.published_results import published_on, training_set
from igoas_plugin.reports.comparison.training import made_by
from igoas_plugin.reports.figures.activation_figure import draw_activations, read_pair
from igoas_plugin.reports.figures.figure_file import pixels_of
from igoas_plugin.reports.rank_lists import Query, RankList, extremes, grouped, queries_of, rank_list

from .charts import Chart, cmc_chart, distance_chart, severity_charts, severity_points, training_charts
from .page import name_below, render
from .run_folder import RunFolder
from .thumbnails import Thumbnail, thumbnail

SIZE = (64, 128)  # largest size (width, height) of a picture in a rank list, in pixels
TOP = 10  # gallery images of a rank list; style.css has as many columns, and two for the query and the first match
OPENED = 5  # queries of a test set whose pictures are not folded
MAPS_DPI, MAPS_SIZE = 72, (2000, 2000)  # resolution and largest size, in pixels, of a figure of activation maps
SAME = 0.05  # difference of a metric, in percentage points, that is not reported
DISTANCES = {"cosine": "cosine distance", "euclidean": "squared Euclidean distance"}  # by TEST.METRIC


@dataclass(frozen=True)
class TestSet:
    """Evaluation on one test set.

    Args:
        retrieval: the ranking.
        queries: all queries, the worst first.
        lists: {"worst", "best", "random": rank lists that are shown with pictures}.
        pictures: {path: picture} of all images in these rank lists.
        maps: {position of a worst or best query: its activation maps}.
    """

    retrieval: Retrieval
    queries: list[Query]
    lists: dict[str, list[RankList]]
    pictures: dict[str, Thumbnail]
    maps: dict[int, Thumbnail]

    @property
    def name(self) -> str:
        return self.retrieval.name

    @property
    def metrics(self) -> dict[str, float]:
        """METRICS in %."""
        return {name: self.retrieval.metrics[name] for name in METRICS}

    @property
    def pictured(self) -> dict[int, str]:
        """{position of a query with pictures: "worst", "best" or "random"}."""
        return {ranked.query.position: kind for kind, lists in self.lists.items() for ranked in lists}


def evaluate(run: RunFolder, model: nn.Module, count: int) -> list[TestSet]:
    """Evaluates a run on each of its test sets.

    Args:
        model: its model with weights, in evaluation mode.
        count: number of worst, of best and of random queries that are shown with pictures.

    Raises:
        InputError: a data set is missing or damaged, or an image cannot be read.
    """
    sets = []
    for name in dict.fromkeys(run.cfg.DATASETS.TESTS):
        retrieval = retrieve(run.cfg, model, name)
        queries = queries_of(retrieval)
        lists = {
            kind: [rank_list(retrieval, query, TOP) for query in chosen]
            for kind, chosen in extremes(queries, count).items()
        }
        with_maps = [ranked.query for kind in ("worst", "best") for ranked in lists[kind]]
        maps = {query.position: activation_maps(run.cfg, model, query.path) for query in with_maps}
        sets.append(TestSet(retrieval, queries, lists, pictures_of(retrieval, sum(lists.values(), [])), maps))
    return sets


def pictures_of(retrieval: Retrieval, lists: Sequence[RankList]) -> dict[str, Thumbnail]:
    """Returns {path: picture} of all images in rank lists; each is read once."""
    queries, gallery = folders_of(retrieval)
    folders = {}
    for ranked in lists:
        folders |= {found.path: gallery for found in (*ranked.found, ranked.later) if found}
        folders[ranked.query.path] = queries
    return {path: thumbnail(path, f"image {name_below(path, folder)}", SIZE) for path, folder in folders.items()}


def folders_of(retrieval: Retrieval) -> list[str]:
    """Returns the folder of the queries and the folder of the gallery."""
    parts = retrieval.query, retrieval.gallery
    return [os.path.commonpath([os.path.dirname(path) for path, _, _ in items]) for items in parts]


def activation_maps(cfg, model: nn.Module, path: str) -> Thumbnail:
    """Draws the activation maps of an image, without and with the occlusion of the last epoch."""
    figure = draw_activations(model, read_pair(cfg, [path], cfg.SOLVER.MAX_EPOCH - 1), "")
    figure.set_dpi(MAPS_DPI)
    return thumbnail(pixels_of(figure), "activation maps, as explained above", MAPS_SIZE)


def page_of(run: RunFolder, sets: Sequence[TestSet], sha256: str, command: str) -> bytes:
    """Renders the page.

    Args:
        sets: its evaluation, see evaluate().
        sha256: hash of the weights without classifiers.
        command: the command that made the page.
    """
    cfg, root = run.cfg, os.getenv("FASTREID_DATASETS", "datasets")
    model = shown_name("this evaluation", recorded_settings(cfg))
    return render(
        "report.html",
        run=run,
        cfg=cfg,
        root=root,
        title=os.path.basename(os.path.abspath(run.path)),
        version=__version__,
        time=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        maker=made_by(cfg.MODEL.DEVICE),
        command=command,
        sha256=sha256,
        # published figures are without these, unless they say otherwise
        extras=([mark_of(steps)] if (steps := steps_of(cfg)) else [])
        + (["flipping"] if cfg.TEST.FLIP.ENABLED else [])
        + ([] if cfg.TEST.CAMERA_RULE else ["images of the query's camera ranked (TEST.CAMERA_RULE False)"]),
        settings=settings_of(cfg),
        splits=splits_of(cfg, root),
        metrics=METRICS,
        sets=[page_values(run, tested) for tested in sets],
        training=training_charts(run.lines, cfg.TEST.EVAL_PERIOD, cfg.SOLVER.MAX_EPOCH),
        distances=distance_charts(cfg, sets),
        opened=OPENED,
        top=TOP,
        severity=severity_charts(severity_points({tested.name: tested.metrics for tested in sets}, model)),
        curve=severity_charts(run.curve),
        nearest=NEAREST,
    )


def distance_charts(cfg, sets: Sequence[TestSet]) -> list[Chart]:
    """Draws the distances of right and wrong pairs of each test set."""
    name = DISTANCES[cfg.TEST.METRIC] + (", re-ranked" if cfg.TEST.RERANK.ENABLED else "")
    charts = (distance_chart(tested.name, tested.retrieval.pairs, name) for tested in sets)
    return [chart for chart in charts if chart]


def page_values(run: RunFolder, tested: TestSet) -> dict:
    """Returns the variables of the template test_set.html."""
    shown = shown_name(tested.name, recorded_settings(run.cfg))
    return {
        **vars(tested),
        "name": tested.name,
        "shown": shown,
        "metrics": tested.metrics,
        "rows": rows_of(run, tested.name, tested.metrics),
        "differences": differences(run, tested.name, tested.metrics),
        "cmc": cmc_chart(shown, [100 * float(share) for share in tested.retrieval.cmc]),
        "groups": {label: grouped(tested.queries, label) for label in ("camera", "identity")},
        "unanswered": sum(query.ap is None for query in tested.queries),
        "folders": folders_of(tested.retrieval),
        "pictured": tested.pictured,
    }


class MetricRow(NamedTuple):
    """Row of the table of metrics: measured for the page, recorded by the run, or published by others.

    Args:
        kind: "measured", "recorded" or "published".
        figures: METRICS in %, "-" for an unknown one.
    """

    name: str
    kind: str
    figures: tuple[str, ...]
    source: str


def rows_of(run: RunFolder, data_set: str, metrics: dict[str, float]) -> list[MetricRow]:
    """Returns the measured row of a test set, the recorded ones, and the published ones, the best last.

    Published figures have the same test set and the same training set.
    """
    name = shown_name("this evaluation", recorded_settings(run.cfg))
    rows = [MetricRow(name, "measured", figures_of(metrics), "measured for this page")]
    for file, results in run.recorded.items():
        if data_set in results:
            recorded = results[data_set]
            name = shown_name("recorded", recorded)
            rows.append(MetricRow(name, "recorded", figures_of(recorded), f"{file} of the run"))
    for each in published_on(data_set, training_set(run.cfg)):
        rows.append(MetricRow(each.title, "published", figures_of(each.metrics), each.source))
    return rows


def figures_of(metrics: dict[str, float]) -> tuple[str, ...]:
    return tuple(f"{metrics[metric]:.1f}" if metric in metrics else "-" for metric in METRICS)


def differences(run: RunFolder, data_set: str, metrics: dict[str, float]) -> list[str]:
    """Returns a sentence for each recorded file that lacks the test set or has other figures of it."""
    sentences = []
    for file, results in run.recorded.items():
        recorded = results.get(data_set)
        if recorded is None:
            sentences.append(f"{file} of the run has no figures of {data_set}.")
            continue
        wrong = [
            f"{name} {metrics[name]:.1f} here, {recorded[name]:.1f} there"
            for name in METRICS
            if name in recorded and name in metrics and abs(metrics[name] - recorded[name]) >= SAME
        ]
        if wrong:
            sentences.append(
                f"These figures differ from {file} of the run: {'; '.join(wrong)}. The reason may be other weights, "
                "config keys or images, or another processor."
            )
    return sentences


def settings_of(cfg) -> list[tuple[str, str, str]]:
    """Returns key, value and default of each key that differs from the defaults of fast-reid and the plugin."""
    default = get_cfg()
    values = [(key, value_of(cfg, key), value_of(default, key)) for key in flat_keys(cfg)]
    return [(key, str(value), str(usual)) for key, value, usual in values if value != usual]


def splits_of(cfg, root: str) -> list[tuple[str, ...]]:
    """Counts the training sets and the test sets.

    Returns:
        Of each split: data set, split, images, identities, cameras, published counts, state.
    """
    wanted = [(name, "train") for name in cfg.DATASETS.NAMES]
    wanted += [(name, split) for name in cfg.DATASETS.TESTS for split in ("query", "gallery")]
    reports = {
        name: report(name, root, camera_rule=cfg.TEST.CAMERA_RULE) for name in dict.fromkeys(name for name, _ in wanted)
    }
    rows = []
    for name, split in dict.fromkeys(wanted):
        found = reports[name].splits.get(split)
        if found is None:
            rows.append((name, split, *4 * "-", reports[name].why or "it has none"))
            continue
        numbers = (f"{number:,}" for number in found.counts)
        rows.append((name, split, *numbers, published_text(found.published), found.state))
    return rows
