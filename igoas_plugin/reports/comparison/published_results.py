"""Published figures of other methods, with their sources."""

import csv
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import NamedTuple


class Published(NamedTuple):
    """Row of published_results.csv.

    Args:
        method: name of the method. "(transductive)" in it marks one that changes a descriptor by other images of the
            test set.
        venue: place of publication; "" if the source does not name it.
        metrics: "Rank-1", "Rank-5" and "mAP", in %; an unpublished one is missing.
    """

    method: str
    venue: str
    metrics: dict[str, float]
    source: str

    @property
    def title(self) -> str:
        return f"{self.method}, {self.venue}" if self.venue else self.method


def training_set(cfg) -> str:
    """Returns the names of the images that a config is trained on.

    Example:
        >>> from igoas_plugin import get_cfg
        >>> training_set(get_cfg())
        'Market1501'
    """
    return " + ".join(cfg.DATASETS.NAMES) + (", all images" if cfg.DATASETS.COMBINEALL else "")


def published_on(data_set: str, trained_on: str) -> list[Published]:
    """Returns the figures of a protocol, lowest Rank-1 first, methods without a published Rank-1 before them.

    Args:
        data_set: registered name of the test set.
        trained_on: the training set, see training_set(). Figures after another training do not compare.

    Example:
        >>> [row.method for row in published_on("PartialiLIDS", "Market1501")]
        ['PGFA', 'HOReID (HONet)', 'FastReID-DSR', 'RGANet', 'SOLIDER (Swin-B)']
    """
    with (files(__package__) / "published_results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))  # its data sets are names, or patterns such as OccludedREIDHalfSplit[0-9]
    found = [
        Published(
            row["method"],
            row["venue"],
            {metric: float(row[metric]) for metric in ("Rank-1", "Rank-5", "mAP") if row[metric]},
            row["source"],
        )
        for row in rows
        if fnmatchcase(data_set, row["data_set"]) and fnmatchcase(trained_on, row["trained_on"])
    ]
    return sorted(found, key=lambda row: row.metrics.get("Rank-1", 0))
