"""Figures that other methods have published, with their sources."""

import csv
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import NamedTuple


class Published(NamedTuple):
    """One row of published_results.csv.

    Args:
        method: and the variant of it.
        venue: where it was published; "" where the source does not tell.
        data_set: registered name of the protocol, or a pattern for those of its random draws.
        trained_on: the same of the training set.
        metrics: "Rank-1", "Rank-5" and "mAP", in %; what was not published is missing.
        source: where the figures were read.
    """

    method: str
    venue: str
    data_set: str
    trained_on: str
    metrics: dict[str, float]
    source: str


def published_on(data_set: str, trained_on: tuple[str, ...]) -> list[Published]:
    """The figures of a protocol, lowest Rank-1 first.

    Args:
        data_set: registered name that is tested on.
        trained_on: registered names of the training sets; figures of another training do not compare.

    Example:
        >>> [row.method for row in published_on("PartialiLIDS", ("Market1501",))]
        ['PGFA', 'HOReID (HONet)', 'FastReID-DSR']
    """
    with (files(__package__) / "published_results.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if fnmatchcase(data_set, row["data_set"])
            and len(trained_on) == 1
            and fnmatchcase(trained_on[0], row["trained_on"])
        ]
    found = [
        Published(
            *(row[column] for column in ("method", "venue", "data_set", "trained_on")),
            {metric: float(row[metric]) for metric in ("Rank-1", "Rank-5", "mAP") if row[metric]},
            row["source"],
        )
        for row in rows
    ]
    return sorted(found, key=lambda row: row.metrics["Rank-1"])
