"""What a run of tools/train_net.py left in its folder, as far as a report needs it."""

import os
from dataclasses import dataclass

from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.evaluation.results import EVALUATED, TRAINED, read_results
from igoas_plugin.reports.severity_curve import Point, read_csv

# Weights of a run, the first that is there, and what the page says of them
WEIGHTS = {
    "model_final.pth": "the run's weights after its last epoch",
    "model_best.pth": "the run's best epoch, which was chosen on the test set itself: no figure to compare",
}
CURVE = "occlusion_curve.csv"


@dataclass(frozen=True)
class RunFolder:
    """A run, ready to be evaluated.

    Args:
        path: its folder.
        cfg: its config.yaml with the pairs of the command line; MODEL.WEIGHTS are those to evaluate.
        weights: which these are, in words.
        recorded: {file: {data set: {metric: value in %}}} of the files that train_net.py wrote.
        curve: points of occlusion_curve.csv; empty where there is none.
    """

    path: str
    cfg: object
    weights: str
    recorded: dict[str, dict[str, dict[str, float]]]
    curve: list[Point]


def open_run(path: str, opts: list[str]) -> RunFolder:
    """Looks at the folder of a run.

    Args:
        path: of the folder.
        opts: KEY VALUE ... that win over its config.yaml.

    Raises:
        InputError: it is no folder of a run, a file of it is damaged, the pairs do not fit, no weights are there, or
            DATASETS.TESTS is empty.
    """
    config = os.path.join(path, "config.yaml")
    if not os.path.isfile(config):
        raise InputError(f"{config} does not exist: give the folder that tools/train_net.py wrote a run into")
    cfg = load_cfg(config, opts)
    if not cfg.DATASETS.TESTS:
        raise InputError(f"DATASETS.TESTS of {config} names no data set: give DATASETS.TESTS \"('NAME',)\"")
    cfg.MODEL.WEIGHTS, words = weights_in(path, cfg.MODEL.WEIGHTS, given="MODEL.WEIGHTS" in opts[::2])
    files = {name: os.path.join(path, name) for name in (TRAINED, EVALUATED)}
    recorded = {name: read_results(file) for name, file in files.items() if os.path.isfile(file)}
    curve = os.path.join(path, CURVE)
    return RunFolder(path, cfg, words, recorded, read_csv(curve) if os.path.isfile(curve) else [])


def weights_in(path: str, configured: str, given: bool) -> tuple[str, str]:
    """The weights to evaluate, and which they are, in words.

    Args:
        path: folder of the run.
        configured: MODEL.WEIGHTS.
        given: it was given on the command line.

    Raises:
        InputError: there are none.
    """
    if given and configured:
        return configured, "given on the command line"
    for name, words in WEIGHTS.items():
        file = os.path.join(path, name)
        if os.path.isfile(file):
            return file, words
    if configured and not os.path.exists(os.path.join(path, "last_checkpoint")):  # else a training started from them
        return configured, "MODEL.WEIGHTS of config.yaml, which the run evaluated"
    raise InputError(f"{path} holds neither {' nor '.join(WEIGHTS)}: finish the training, or give MODEL.WEIGHTS PATH")
