"""The metrics of a run as a file, and as a table of several runs."""

import json
import os
from glob import glob

from tabulate import tabulate

from .errors import InputError

METRICS = ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP")  # in %, as the host's evaluator names them
FILE = "results.json"


def save_results(results: dict, cfg) -> None:
    """Writes OUTPUT_DIR/results.json: {data set: {metric: value}}.

    Args:
        results: as the host's DefaultTrainer.test() gives it, for one data set or for several.
        cfg: of the run.
    """
    tests = cfg.DATASETS.TESTS
    by_set = {tests[0]: results} if len(tests) == 1 else results
    plain = {name: {metric: float(value) for metric, value in metrics.items()} for name, metrics in by_set.items()}
    path = os.path.join(cfg.OUTPUT_DIR, FILE)
    with open(f"{path}.writing", "w") as file:
        json.dump(plain, file, indent=2)
    os.replace(f"{path}.writing", path)


def summarize(output_dirs: list[str]) -> str:
    """A table with one row a run and data set, and where the last run's files are.

    Raises:
        InputError: a run has no results.
    """
    rows = []
    for output_dir in output_dirs:
        path = os.path.join(output_dir, FILE)
        if not os.path.isfile(path):
            raise InputError(
                f"{path} does not exist: {output_dir} is no run of tools/train_net.py that came to its end"
            )
        with open(path) as file:
            by_set = json.load(file)
        rows += [(output_dir, name, *(metrics.get(metric) for metric in METRICS)) for name, metrics in by_set.items()]
    table = tabulate(rows, headers=("run", "data set", *METRICS), tablefmt="pipe", floatfmt=".1f")
    return f"\n{table}\n\n{tabulate(files_of(output_dirs[-1]), tablefmt='plain')}\n"


def files_of(output_dir: str) -> list[tuple[str, str]]:
    kinds = {
        "log": "log.txt",
        "metrics": "metrics.json",
        "weights": "model_final.pth",
        "best weights": "model_best.pth",
        "tensorboard": "events.out.tfevents.*",
    }
    found = [(kind, sorted(glob(os.path.join(output_dir, pattern)))) for kind, pattern in kinds.items()]
    return [(kind, paths[-1]) for kind, paths in found if paths]
