"""The table of a comparison, as Markdown and as CSV; rows of other methods' published figures stand beside ours."""

import csv
import io
from typing import NamedTuple

from tabulate import tabulate

from igoas_plugin.evaluation.results import METRICS

from .measures import Figure, Row
from .published_results import Published, published_on
from .runs import Run
from .training import makers_of

BEST = "best epoch's Rank-1 (chosen on the test set)"
COST = ("M parameters", "GFLOPs", "images/s", "minutes")
NOTE = (
    "Mean and standard deviation (of the sample) over the seeds, after the last epoch. Parameters are those that the "
    "descriptor needs; GFLOPs of one image, a multiplication and an addition being two operations; images/s of "
    "training on this machine; minutes of a run with its evaluations. The best epoch is chosen on the test set itself: "
    "no figure to compare. Published rows are what other papers report, with the source: other backbones, sizes and "
    "epochs."
)


class Training(NamedTuple):
    """What a config is trained on.

    Args:
        names: registered names of the data sets.
        whole: query and gallery images too (DATASETS.COMBINEALL): no published figure compares.
    """

    names: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return " + ".join(self.names) + (", all images" if self.whole else "")

    def published_on(self, data_set: str) -> list[Published]:
        return [] if self.whole else published_on(data_set, self.names)


def trainings_of(runs: list[Run]) -> dict[str, Training]:
    """By the name of the config."""
    return {run.name: Training(tuple(run.cfg.DATASETS.NAMES), run.cfg.DATASETS.COMBINEALL) for run in runs}


def markdown(rows: list[Row], runs: list[Run], failures: dict[str, str], command: str) -> str:
    """One table a data set and training set, then what failed, and how it was made.

    Args:
        rows: of all configs.
        runs: of all configs; they tell what was trained on.
        failures: folder of a run and its last words.
        command: that made the comparison.
    """
    trained_on, parts = trainings_of(runs), []
    for data_set, training in dict.fromkeys((row.data_set, trained_on[row.name]) for row in rows):
        own = [row for row in rows if (row.data_set, trained_on[row.name]) == (data_set, training)]
        cells = [cells_of(row) for row in own] + [cells_of_published(row) for row in training.published_on(data_set)]
        headers = ("config", "seeds", *METRICS, *COST, BEST, "source")
        table = tabulate(cells, headers, tablefmt="pipe", disable_numparse=True)
        parts.append(f"## {data_set}, trained on {training}\n\n{table}\n")
    failed = [f"- {folder}: {words}" for folder, words in failures.items()]
    if failed:
        parts.append("## Failed\n\n" + "\n".join(failed) + "\n")
    makers = "".join(f"\n- {maker}" for maker in makers_of([run for run in runs if run.done]))
    return "\n".join(parts) + f"\n{NOTE}\n\nCommand: `{command}`\n\nThe runs were made by:\n{makers}\n"


def cells_of(row: Row) -> tuple[str, ...]:
    model = (f"{row.cost.parameters / 1e6:.1f}", f"{row.cost.flops / 1e9:.2f}") if row.cost else ("", "")
    costs = (*model, row.images_per_second, row.minutes)
    figures = (row.metrics[metric] for metric in METRICS)
    return (row.name, str(row.seeds), *map(str, figures), *map(str, costs), str(row.best), "this comparison")


def cells_of_published(row: Published) -> tuple[str, ...]:
    name = f"{row.method}, {row.venue}" if row.venue else row.method
    figures = (str(Figure(row.metrics.get(metric))) for metric in METRICS)
    return (name, "", *figures, *len(COST) * ("",), "", f"published: {row.source}")


def as_csv(rows: list[Row], runs: list[Run]) -> str:
    """All numbers, one row a config and data set, then the published ones."""
    trained_on = trainings_of(runs)
    columns = ["config", "data_set", "trained_on", "seeds", "source"]
    measured = [*METRICS, "best_epoch_Rank-1", "images_per_second", "minutes"]
    columns += [f"{name}_{kind}" for name in measured for kind in ("mean", "std")] + ["parameters", "flops"]
    text, seen = io.StringIO(), {}
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for row in rows:
        training = trained_on[row.name]
        figures = {**row.metrics, "best_epoch_Rank-1": row.best}
        figures |= {"images_per_second": row.images_per_second, "minutes": row.minutes}
        numbers = {f"{name}_mean": figure.mean for name, figure in figures.items()}
        numbers |= {f"{name}_std": figure.deviation for name, figure in figures.items()}
        first = {"config": row.name, "data_set": row.data_set, "trained_on": training, "seeds": row.seeds}
        last = {"source": "this comparison", **(row.cost._asdict() if row.cost else {})}
        writer.writerow({**first, **numbers, **last})
        seen[row.data_set, training] = training.published_on(row.data_set)
    for (data_set, training), published in seen.items():
        for row in published:
            numbers = {f"{metric}_mean": value for metric, value in row.metrics.items()}
            first = {"config": row.method, "data_set": data_set, "trained_on": training}
            writer.writerow({**first, **numbers, "source": f"published: {row.source}"})
    return text.getvalue()
