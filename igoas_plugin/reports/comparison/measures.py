"""Measures of finished runs, read from their files, with means over the seeds."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, median, stdev

from igoas_plugin.engine.metrics_file import logged_lines
from igoas_plugin.evaluation.results import CMC, METRICS, TRAINED, read_results, shown_name

from .cost import Cost
from .published_results import training_set
from .runs import Run
from .training import seconds_of


@dataclass(frozen=True)
class Mean:
    """Mean over seeds with the sample standard deviation, which is None for one seed.

    Example:
        >>> str(Mean.of([60.0, 62.0])), str(Mean.of([60.0])), str(Mean.of([]))
        ('61.0 ± 1.4', '60.0', '')
    """

    mean: float | None = None
    deviation: float | None = None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Mean":
        values = [value for value in values if value is not None]
        return cls(mean(values) if values else None, stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        if self.mean is None:
            return ""
        return f"{self.mean:.1f}" + ("" if self.deviation is None else f" ± {self.deviation:.1f}")


ONE_SEED = "one seed: no deviation"


@dataclass(frozen=True)
class Row:
    """Measures of a config on a test set.

    Args:
        data_set: name of the test set, see shown_name().
        trained_on: the training set, see training_set().
        metrics: METRICS after the last epoch, in %.
        best: Rank-1 of the best epoch, in %. It is chosen on the test set, so it is no fair figure.
        cmc: Rank-1, Rank-2, ..., in %, mean over the seeds; [] if the runs did not write it.
        cost: parameters and operations; None if the model cannot be built.
    """

    name: str
    data_set: str
    trained_on: str
    seeds: int
    metrics: dict[str, Mean]
    best: Mean
    cmc: list[float]
    cost: Cost | None
    images_per_second: Mean
    minutes: Mean


def rows_of(runs: list[Run], cost: Cost | None) -> list[Row]:
    """Returns the rows of one config, one for each of its test sets.

    Args:
        runs: runs of one config with different seeds. Unfinished runs are ignored.
        cost: cost of the config; None if its model cannot be built.
    """
    done, rows = [run for run in runs if run.done], []
    results = [read_results(os.path.join(run.folder, TRAINED)) for run in done]
    logs = [logged_lines(run.folder) for run in done]
    for data_set in dict.fromkeys(runs[0].cfg.DATASETS.TESTS):
        by_seed = [result[data_set] for result in results]
        curves = [metrics[CMC] for metrics in by_seed if CMC in metrics]
        rows.append(
            Row(
                runs[0].name,
                shown_name(data_set, by_seed[0] if by_seed else {}),
                training_set(runs[0].cfg),
                len(done),
                {name: Mean.of(metrics.get(name) for metrics in by_seed) for name in METRICS},
                Mean.of(best_rank_1(lines, data_set) for lines in logs),
                [mean(ranks) for ranks in zip(*curves, strict=False)],
                cost,
                Mean.of(images_per_second(run, lines) for run, lines in zip(done, logs, strict=True)),
                Mean.of(sum(seconds_of(run.folder)) / 60 or None for run in done),
            )
        )
    return rows


def best_rank_1(lines: list[dict], data_set: str) -> float | None:
    """Returns the best Rank-1 of all evaluated epochs; fast-reid logs the set's name only if there are several sets."""
    ranks = [line.get(f"{data_set}/Rank-1", line.get("Rank-1")) for line in lines]
    return max((rank for rank in ranks if rank is not None), default=None)


def images_per_second(run: Run, lines: list[dict]) -> float | None:
    """Returns the median speed of a training, from the seconds of a step that it logged."""
    seconds = [line["time"] for line in lines if "time" in line]
    return run.cfg.SOLVER.IMS_PER_BATCH / median(seconds) if seconds else None


def one_seed(rows: list[Row]) -> bool:
    """Returns whether no config has runs of several seeds, so that there is no deviation."""
    return all(row.seeds <= 1 for row in rows)
