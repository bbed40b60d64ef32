"""Table of a comparison as Markdown and as CSV, with the published figures of other methods."""

import csv
import io

from tabulate import tabulate

from igoas_plugin.evaluation.results import METRICS

from .measures import ONE_SEED, Mean, Row, one_seed
from .published_results import Published, published_on
from .runs import Run
from .training import makers_of

COST = ("M parameters", "GFLOPs", "images/s", "minutes")
HEADERS = ("config", "seeds", *METRICS, *COST, "best epoch's Rank-1 (chosen on the test set)", "source")
SEVERAL = "Mean and sample standard deviation over the seeds, after the last epoch."
ONE = f"After the last epoch; {ONE_SEED}."
NOTE = (
    "Parameters: those that the descriptor needs. GFLOPs: of one image; a multiplication and an addition count as two "
    "operations. images/s: of training, on this machine. minutes: of a run with its evaluations. The best epoch is "
    "chosen on the test set itself, so it is no figure to compare."
)
PUBLISHED = (
    "Published rows are the figures of other papers, with the source; their backbones, image sizes and epochs differ. "
    "A transductive method changes a descriptor by other queries and gallery images."
)


def markdown(rows: list[Row], runs: list[Run], failures: dict[str, str], command: str) -> str:
    """Returns a table for each test set and training set, then the failed runs, versions and machines.

    Args:
        failures: {folder of a failed run: the last line that it printed}.
    """
    parts, notes = [], [ONE if one_seed(rows) else SEVERAL, NOTE]
    for data_set, trained_on in protocols_of(rows):
        own = [row for row in rows if (row.data_set, row.trained_on) == (data_set, trained_on)]
        published = published_on(data_set, trained_on)
        if published and PUBLISHED not in notes:
            notes.append(PUBLISHED)
        cells = [cells_of(row) for row in own] + [cells_of_published(row) for row in published]
        table = tabulate(cells, HEADERS, tablefmt="pipe", disable_numparse=True)
        parts.append(f"## {data_set}, trained on {trained_on}\n\n{table}\n")
    if failures:
        parts.append("## Failed\n\n" + "\n".join(f"- {folder}: {line}" for folder, line in failures.items()) + "\n")
    makers = "".join(f"\n- {maker}" for maker in makers_of([run for run in runs if run.done]))
    return "\n".join(parts) + f"\n{' '.join(notes)}\n\nCommand: `{command}`\n\nThe runs were made by:\n{makers}\n"


def protocols_of(rows: list[Row]) -> list[tuple[str, str]]:
    """Returns the different pairs of a test set and a training set."""
    return list(dict.fromkeys((row.data_set, row.trained_on) for row in rows))


def cells_of(row: Row) -> tuple[str, ...]:
    size = (f"{row.cost.parameters / 1e6:.1f}", f"{row.cost.flops / 1e9:.2f}") if row.cost else ("", "")
    metrics = (str(row.metrics[metric]) for metric in METRICS)
    speed = (str(row.images_per_second), str(row.minutes))
    return (row.name, str(row.seeds), *metrics, *size, *speed, str(row.best), "this comparison")


def cells_of_published(row: Published) -> tuple[str, ...]:
    metrics = (str(Mean(row.metrics.get(metric))) for metric in METRICS)
    return (row.title, "", *metrics, *len(COST) * ("",), "", f"published: {row.source}")


def as_csv(rows: list[Row]) -> str:
    """Returns all numbers as CSV: a row for each config and test set, then the published rows."""
    measures = [*METRICS, "best_epoch_Rank-1", "images_per_second", "minutes"]
    columns = ["config", "data_set", "trained_on", "seeds", "source"]
    columns += [f"{name}_{kind}" for name in measures for kind in ("mean", "std")] + ["parameters", "flops"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for row in rows:
        cells = {"config": row.name, "data_set": row.data_set, "trained_on": row.trained_on, "seeds": row.seeds}
        cells |= {"source": "this comparison", **(row.cost._asdict() if row.cost else {})}
        values = (*(row.metrics[metric] for metric in METRICS), row.best, row.images_per_second, row.minutes)
        for name, value in zip(measures, values, strict=True):
            cells |= {f"{name}_mean": value.mean, f"{name}_std": value.deviation}
        writer.writerow(cells)
    for data_set, trained_on in protocols_of(rows):
        for row in published_on(data_set, trained_on):
            cells = {"config": row.method, "data_set": data_set, "trained_on": trained_on}
            cells |= {f"{metric}_mean": value for metric, value in row.metrics.items()}
            writer.writerow({**cells, "source": f"published: {row.source}"})
    return text.getvalue()
