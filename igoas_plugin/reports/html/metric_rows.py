"""Rows of the table of metrics: measured for the page, recorded by the run, published by others."""

from typing import NamedTuple

from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.reports.comparison.published_results import published_on, training_set

from .run_folder import RunFolder

SAME = 0.05  # difference of a metric, in percentage points, that is not reported


class Row(NamedTuple):
    """Row of the table of metrics.

    Args:
        kind: "measured", "recorded" or "published".
        figures: METRICS in %, "-" for an unknown one.
    """

    name: str
    kind: str
    figures: tuple[str, ...]
    source: str


def rows_of(run: RunFolder, data_set: str, metrics: dict[str, float]) -> list[Row]:
    """Returns the measured row of a test set, the recorded ones, and the published ones, the best last.

    Published figures have the same test set and the same training set.
    """
    rows = [Row("this evaluation", "measured", figures_of(metrics), "measured for this page")]
    for file, results in run.recorded.items():
        if data_set in results:
            rows.append(Row("recorded", "recorded", figures_of(results[data_set]), f"{file} of the run"))
    for each in published_on(data_set, training_set(run.cfg)):
        rows.append(Row(each.title, "published", figures_of(each.metrics), each.source))
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
