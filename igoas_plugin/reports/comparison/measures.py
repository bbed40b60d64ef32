"""What the files of finished runs tell, and their means over seeds."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, median, stdev

from igoas_plugin.engine.metrics_file import logged_lines
from igoas_plugin.evaluation.results import CMC, METRICS, TRAINED, read_results

from .cost import Cost
from .runs import Run
from .training import seconds_of


@dataclass(frozen=True)
class Figure:
    """A mean over seeds with its sample standard deviation; None for one seed.

    Example:
        >>> str(Figure.of([60.0, 62.0])), str(Figure.of([60.0])), str(Figure.of([]))
        ('61.0 ± 1.4', '60.0', '')
    """

    mean: float | None = None
    deviation: float | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> "Figure":
        values = [value for value in values if value is not None]
        return cls(mean(values) if values else None, stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        if self.mean is None:
            return ""
        return f"{self.mean:.1f}" + ("" if self.deviation is None else f" ± {self.deviation:.1f}")


@dataclass(frozen=True)
class Row:
    """A config on a data set.

    Args:
        name: of the config.
        data_set: registered name.
        seeds: how many runs came to their end.
        metrics: those of METRICS after the last epoch, in %.
        best: Rank-1 of the epoch that is best on this very test set, in %: not a fair figure.
        cmc: Rank-1 to Rank-50, in %, mean over seeds; [] where the runs do not tell it.
        cost: parameters and operations; None where the model cannot be built.
        images_per_second: of training.
        minutes: of a whole run, with its evaluations.
    """

    name: str
    data_set: str
    seeds: int
    metrics: dict[str, Figure]
    best: Figure
    cmc: list[float]
    cost: Cost | None
    images_per_second: Figure
    minutes: Figure


def rows_of(runs: list[Run], cost: Cost | None) -> list[Row]:
    """The rows of one config, one for each data set that it is tested on.

    Args:
        runs: of one config, with different seeds; those that are not done are left out.
        cost: of the config; None where its model cannot be built.
    """
    done, rows = [run for run in runs if run.done], []
    results = [read_results(os.path.join(run.folder, TRAINED)) for run in done]
    epochs = [logged_lines(run.folder) for run in done]
    for data_set in dict.fromkeys(runs[0].cfg.DATASETS.TESTS):
        found = [result[data_set] for result in results]
        curves = [each[CMC] for each in found if CMC in each]
        rows.append(
            Row(
                runs[0].name,
                data_set,
                len(done),
                {metric: Figure.of(each.get(metric) for each in found) for metric in METRICS},
                Figure.of(best_rank_1(lines, data_set) for lines in epochs),
                [mean(ranks) for ranks in zip(*curves, strict=False)],
                cost,
                Figure.of(images_per_second(run, lines) for run, lines in zip(done, epochs, strict=True)),
                Figure.of(sum(seconds_of(run.folder)) / 60 or None for run in done),
            )
        )
    return rows


def best_rank_1(lines: list[dict], data_set: str) -> float | None:
    """Of the epochs that were evaluated; the host names the set only where there are several."""
    ranks = [line.get(f"{data_set}/Rank-1", line.get("Rank-1")) for line in lines]
    return max((rank for rank in ranks if rank is not None), default=None)


def images_per_second(run: Run, lines: list[dict]) -> float | None:
    seconds = [line["time"] for line in lines if "time" in line]
    return run.cfg.SOLVER.IMS_PER_BATCH / median(seconds) if seconds else None
