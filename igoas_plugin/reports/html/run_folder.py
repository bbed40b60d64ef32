"""Folder of a run of tools/train_net.py: its config, weights and results."""

import os
from dataclasses import dataclass

from fastreid.config import CfgNode

from igoas_plugin.core.errors import InputError
from igoas_plugin.engine.metrics_file import logged_lines
from igoas_plugin.evaluation.results import EVALUATED, TRAINED, read_results
from igoas_plugin.inference.trained import config_of_run, weights_in
from igoas_plugin.reports.severity_curve import Point, read_csv

CURVE = "occlusion_curve.csv"


@dataclass(frozen=True)
class RunFolder:
    """Run that can be evaluated.

    Args:
        cfg: its config.yaml with the pairs of the command line; MODEL.WEIGHTS names the weights to evaluate.
        weights: description of these weights.
        recorded: {file: {data set: {metric: value in %}}} of the files that train_net.py wrote.
        curve: points of occlusion_curve.csv; [] if there is no such file.
        lines: lines of metrics.json; [] if there is no such file.
    """

    path: str
    cfg: CfgNode
    weights: str
    recorded: dict[str, dict[str, dict[str, float]]]
    curve: list[Point]
    lines: list[dict]


def open_run(path: str, opts: list[str]) -> RunFolder:
    """Reads the folder of a run.

    Args:
        opts: KEY VALUE ... that override its config.yaml.

    Raises:
        InputError: the folder holds no run, a file is damaged, the pairs do not fit, there are no weights, or
            DATASETS.TESTS is empty.
    """
    cfg = config_of_run(path, opts)
    if not cfg.DATASETS.TESTS:
        raise InputError(f"DATASETS.TESTS of {path}/config.yaml names no data set: give DATASETS.TESTS \"('NAME',)\"")
    cfg.MODEL.WEIGHTS, weights = weights_in(path, cfg.MODEL.WEIGHTS, given="MODEL.WEIGHTS" in opts[::2])
    files = {name: os.path.join(path, name) for name in (TRAINED, EVALUATED)}
    recorded = {name: read_results(file) for name, file in files.items() if os.path.isfile(file)}
    curve = os.path.join(path, CURVE)
    points = read_csv(curve) if os.path.isfile(curve) else []
    return RunFolder(path, cfg, weights, recorded, points, logged_lines(path))
