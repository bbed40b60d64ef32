"""The metrics of a test set beside what the run recorded and what others have published."""

from typing import NamedTuple

from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.reports.comparison.table import Training

from .run_folder import RunFolder

SAME = 0.05  # points of a metric in % that a difference is not worth a word


class Row(NamedTuple):
    """A row of the table of metrics.

    Args:
        name: whose figures they are.
        kind: "measured" for this page, "recorded" in the run's folder, or "published".
        figures: of METRICS, in %; "-" where one was not measured or not published.
        source: where they are from.
    """

    name: str
    kind: str
    figures: tuple[str, ...]
    source: str


def rows_of(run: RunFolder, data_set: str, metrics: dict[str, float]) -> list[Row]:
    """What was measured now, what the run recorded of the same test set, then what was published, best last.

    Published are figures of the same test protocol after training on the same set alone.
    """
    rows = [Row("this evaluation", "measured", figures_of(metrics), "measured for this page")]
    for file, results in run.recorded.items():
        if data_set in results:
            rows.append(Row("recorded", "recorded", figures_of(results[data_set]), f"{file} of the run"))
    training = Training(tuple(run.cfg.DATASETS.NAMES), run.cfg.DATASETS.COMBINEALL)
    for each in training.published_on(data_set):
        name = f"{each.method}, {each.venue}" if each.venue else each.method
        rows.append(Row(name, "published", figures_of(each.metrics), each.source))
    return rows


def figures_of(metrics: dict[str, float]) -> tuple[str, ...]:
    return tuple(f"{metrics[metric]:.1f}" if metric in metrics else "-" for metric in METRICS)


def differences(run: RunFolder, data_set: str, metrics: dict[str, float]) -> list[str]:
    """A sentence for each file of the run whose figures of this test set are others, or that has none of it."""
    told = []
    for file, results in run.recorded.items():
        recorded = results.get(data_set)
        if recorded is None:
            told.append(f"{file} of the run has no figures of {data_set}.")
            continue
        both = [name for name in METRICS if name in recorded and name in metrics]
        wrong = [
            f"{name} {metrics[name]:.1f} here, {recorded[name]:.1f} there"
            for name in both
            if abs(metrics[name] - recorded[name]) >= SAME
        ]
        if wrong:
            told.append(
                f"These figures differ from {file} of the run: {'; '.join(wrong)}. Other weights, keys, images or "
                "another processor do that."
            )
    return told
