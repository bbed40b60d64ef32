"""Folder of a run of tools/train_net.py: its config, weights and results."""

import os
from dataclasses import dataclass

from fastreid.config import CfgNode

from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.engine.metrics_file import logged_lines
from igoas_plugin.evaluation.results import EVALUATED, TRAINED, read_results
from igoas_plugin.reports.severity_curve import Point, read_csv

# Files of weights, the preferred one first, and their description on the page
WEIGHTS = {
    "model_final.pth": "the run's weights after its last epoch",
    "model_best.pth": "the run's best epoch, which was chosen on the test set itself: no figure to compare",
}
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
    config = os.path.join(path, "config.yaml")
    if not os.path.isfile(config):
        raise InputError(f"{config} does not exist: give the folder that tools/train_net.py wrote a run into")
    cfg = load_cfg(config, opts)
    if not cfg.DATASETS.TESTS:
        raise InputError(f"DATASETS.TESTS of {config} names no data set: give DATASETS.TESTS \"('NAME',)\"")
    cfg.MODEL.WEIGHTS, weights = weights_in(path, cfg.MODEL.WEIGHTS, given="MODEL.WEIGHTS" in opts[::2])
    files = {name: os.path.join(path, name) for name in (TRAINED, EVALUATED)}
    recorded = {name: read_results(file) for name, file in files.items() if os.path.isfile(file)}
    curve = os.path.join(path, CURVE)
    points = read_csv(curve) if os.path.isfile(curve) else []
    return RunFolder(path, cfg, weights, recorded, points, logged_lines(path))


def weights_in(path: str, configured: str, given: bool) -> tuple[str, str]:
    """Returns the path of the weights to evaluate, and their description.

    Args:
        path: folder of the run.
        configured: MODEL.WEIGHTS.
        given: whether the command line sets MODEL.WEIGHTS.

    Raises:
        InputError: there are none.
    """
    if given and configured:
        return configured, "given on the command line"
    for name, description in WEIGHTS.items():
        file = os.path.join(path, name)
        if os.path.isfile(file):
            return file, description
    # with a last_checkpoint, these are the weights that a training started from
    if configured and not os.path.exists(os.path.join(path, "last_checkpoint")):
        return configured, "MODEL.WEIGHTS of config.yaml, which the run evaluated"
    raise InputError(f"{path} holds neither {' nor '.join(WEIGHTS)}: finish the training, or give MODEL.WEIGHTS PATH")
