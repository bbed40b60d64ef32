"""The table of a comparison, as Markdown and as CSV; rows of other methods' published figures stand beside ours."""

import csv
import io

from tabulate import tabulate

from ..results import METRICS
from .measures import Figure, Row
from .published import Published, published_on
from .runs import Run

BEST = "best epoch's Rank-1 (chosen on the test set)"
COST = ("M parameters", "GFLOPs", "images/s", "minutes")
NOTE = (
    "Mean and standard deviation (of the sample) over the seeds, after the last epoch. Parameters are those that the "
    "descriptor needs; GFLOPs of one image, a multiplication and an addition being two operations; images/s of "
    "training on this machine; minutes of a run with its evaluations. The best epoch is chosen on the test set itself: "
    "no figure to compare. Published rows are what other papers report, with the source: other backbones, sizes and "
    "epochs."
)


def markdown(rows: list[Row], runs: list[Run], failures: dict[str, str]) -> str:
    """One table a data set, then what failed.

    Args:
        rows: of all configs.
        runs: of all configs; they tell what was trained on.
        failures: folder of a run and its last words.
    """
    trained_on = {run.name: run.cfg.DATASETS.NAMES for run in runs}
    parts = []
    for data_set in dict.fromkeys(row.data_set for row in rows):
        own = [row for row in rows if row.data_set == data_set]
        published = [
            row for names in dict.fromkeys(trained_on[row.name] for row in own) for row in published_on(data_set, names)
        ]
        cells = [cells_of(row) for row in own] + [cells_of_published(row) for row in published]
        headers = ("config", "seeds", *METRICS, *COST, BEST, "source")
        table = tabulate(cells, headers, tablefmt="pipe", disable_numparse=True)
        parts.append(f"## {data_set}\n\n{table}\n")
    failed = [f"- {folder}: {words}" for folder, words in failures.items()]
    if failed:
        parts.append("## Failed\n\n" + "\n".join(failed) + "\n")
    return "\n".join(parts) + f"\n{NOTE}\n"


def cells_of(row: Row) -> tuple[str, ...]:
    costs = (f"{row.cost.parameters / 1e6:.1f}", f"{row.cost.flops / 1e9:.2f}", row.images_per_second, row.minutes)
    figures = (row.metrics[metric] for metric in METRICS)
    return (row.name, str(row.seeds), *map(str, figures), *map(str, costs), str(row.best), "this comparison")


def cells_of_published(row: Published) -> tuple[str, ...]:
    name = f"{row.method}, {row.venue}" if row.venue else row.method
    figures = (str(Figure(row.metrics.get(metric))) for metric in METRICS)
    return (name, "", *figures, *len(COST) * ("",), "", f"published: {row.source}")


def as_csv(rows: list[Row], runs: list[Run]) -> str:
    """All numbers, one row a config and data set, then the published ones."""
    trained_on = {run.name: run.cfg.DATASETS.NAMES for run in runs}
    columns = ["config", "data_set", "trained_on", "seeds", "source"]
    measured = [*METRICS, "best_epoch_Rank-1", "images_per_second", "minutes"]
    columns += [f"{name}_{kind}" for name in measured for kind in ("mean", "std")] + ["parameters", "flops"]
    text, seen = io.StringIO(), {}
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for row in rows:
        names = trained_on[row.name]
        figures = {**row.metrics, "best_epoch_Rank-1": row.best}
        figures |= {"images_per_second": row.images_per_second, "minutes": row.minutes}
        numbers = {f"{name}_mean": figure.mean for name, figure in figures.items()}
        numbers |= {f"{name}_std": figure.deviation for name, figure in figures.items()}
        first = {"config": row.name, "data_set": row.data_set, "trained_on": "+".join(names), "seeds": row.seeds}
        last = {"source": "this comparison", "parameters": row.cost.parameters, "flops": row.cost.flops}
        writer.writerow({**first, **numbers, **last})
        seen[row.data_set, names] = published_on(row.data_set, names)
    for published in seen.values():
        for row in published:
            numbers = {f"{metric}_mean": value for metric, value in row.metrics.items()}
            first = {"config": row.method, "data_set": row.data_set, "trained_on": row.trained_on}
            writer.writerow({**first, **numbers, "source": f"published: {row.source}"})
    return text.getvalue()
