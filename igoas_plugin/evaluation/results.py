"""The metrics of a run as a file, and as a table of several runs."""

import json
import os
import re
from glob import glob
from statistics import mean, stdev

from tabulate import tabulate

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.datasets.published import PROTOCOL_OF

from .host_metrics import RECENT_CMC

METRICS = ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP")  # in %, as the host's evaluator names them
CMC = "CMC"  # key of the whole curve: Rank-1, Rank-2, ... in %
TRAINED, EVALUATED = "results.json", "results_eval.json"  # of a run; of a later evaluation in a run's folder


def save_results(results: dict, cfg, eval_only: bool = False) -> str:
    """Writes the metrics into OUTPUT_DIR: {data set: {metric: value}}, and the CMC curve of each.

    Args:
        results: as the host's DefaultTrainer.test() gives it, for one data set or for several.
        cfg: of the run.
        eval_only: the run was an evaluation: in the folder of a training it leaves that one's results alone.

    Returns:
        The path of the file.
    """
    tests = cfg.DATASETS.TESTS
    by_set = {tests[0]: results} if len(set(tests)) == 1 else results  # the host's two forms
    plain = {name: {metric: float(value) for metric, value in metrics.items()} for name, metrics in by_set.items()}
    curves = list(RECENT_CMC)[-len(tests) :]
    if len(curves) == len(tests):
        for name, curve in zip(tests, curves, strict=True):
            plain[name][CMC] = [round(100 * float(rank), 4) for rank in curve]
    trained_here = os.path.exists(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"))
    path = os.path.join(cfg.OUTPUT_DIR, EVALUATED if eval_only and trained_here else TRAINED)
    write_atomically(path, lambda file: file.write(json.dumps(plain, indent=2).encode()))
    return path


def read_results(path: str) -> dict[str, dict]:
    """What save_results() wrote, {data set: {metric: value}}; InputError where the file is missing or damaged."""
    folder = os.path.dirname(path)
    advice = f"remove it, or evaluate {folder} again"
    try:
        with open(path) as file:
            return require_results(json.load(file))
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist: {folder} is no run of tools/train_net.py that came to its end"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}: {advice}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is damaged: {advice}") from None


def require_results(results) -> dict[str, dict]:
    """The same; raises ValueError where it is not {data set: {metric: value}} as save_results() writes it."""
    if not isinstance(results, dict) or not all(isinstance(metrics, dict) for metrics in results.values()):
        raise ValueError(results)
    for metrics in results.values():
        curve = metrics.get(CMC, [])
        values = [metrics[name] for name in METRICS if name in metrics]
        if not isinstance(curve, list) or not all(isinstance(each, (int, float)) for each in (*values, *curve)):
            raise ValueError(metrics)
    return results


def summarize(paths: list[str]) -> str:
    """A table with one row a run and data set, and where the last run's files are.

    Random draws of one protocol, such as OccludedREIDHalfSplit0 to 9, get a further row with their mean and standard
    deviation (of the sample).

    Args:
        paths: folders of runs, or files that save_results() wrote.

    Raises:
        InputError: a run has no results.
    """
    rows = []
    for path in paths:
        path = os.path.join(path, TRAINED) if os.path.isdir(path) else path
        output_dir, by_set = os.path.dirname(path), read_results(path)
        rows += [(output_dir, name, *(metrics.get(metric) for metric in METRICS)) for name, metrics in by_set.items()]
    cells = [(run, name, *("" if each is None else f"{each:.1f}" for each in values)) for run, name, *values in rows]
    table = tabulate(
        cells + means_of_draws(rows),
        headers=("run", "data set", *METRICS),
        tablefmt="pipe",
        disable_numparse=True,
        colalign=("left", "left", *len(METRICS) * ("right",)),
    )
    return f"\n{table}\n\n{tabulate(files_of(output_dir), tablefmt='plain')}\n"


def means_of_draws(rows: list[tuple]) -> list[tuple[str, ...]]:
    """A row of cells for each run and protocol with several draws; the rows: run, data set, values of METRICS.

    The folders ``split0``, ``split1``, ... of one folder are one run.
    """
    by_protocol = {}
    for run, name, *values in rows:
        if name in PROTOCOL_OF:
            run = os.path.dirname(run) if re.fullmatch(r"split\d+", os.path.basename(run)) else run
            by_protocol.setdefault((run, PROTOCOL_OF[name]), {})[name] = values
    means = []
    for (run, protocol), draws in by_protocol.items():
        if len(draws) > 1:
            columns = zip(*draws.values(), strict=True)
            cells = (f"{mean(column):.1f} ± {stdev(column):.1f}" if None not in column else "" for column in columns)
            means.append((f"{run}: mean ± standard deviation of {len(draws)}", protocol, *cells))
    return means


def files_of(output_dir: str) -> list[tuple[str, str]]:
    kinds = {
        "config": "config.yaml",
        "log": "log.txt",
        "metrics": "metrics.json",
        "weights": "model_final.pth",
        "best weights": "model_best.pth",
        "tensorboard": "events.out.tfevents.*",
    }
    found = [(kind, sorted(glob(os.path.join(output_dir, pattern)))) for kind, pattern in kinds.items()]
    return [(kind, paths[-1]) for kind, paths in found if paths]
