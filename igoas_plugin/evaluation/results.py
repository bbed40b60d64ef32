"""Metrics of a run as a file, and as a table of several runs."""

import json
import os
import re
import shlex
from glob import glob
from statistics import mean, stdev

from fastreid.data.datasets import DATASET_REGISTRY
from tabulate import tabulate

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.datasets.published import PROTOCOL_OF
from igoas_plugin.fastreid_fixes.dense_ranking import RECENT_CMC

from .evaluator import applies_camera_rule, applies_nfc

# In %, by the names of fast-reid's evaluator, in the order of every table: a narrow screen shows the first ones
METRICS = ("Rank-1", "mAP", "Rank-5", "Rank-10", "mINP")
CMC = "CMC"  # key of the whole curve: Rank-1, Rank-2, ... in %
CAMERA_RULE = "TEST.CAMERA_RULE"  # key of the setting, true or false, without which figures cannot be compared
STEPS = "steps"  # key of the steps between descriptors and ranking, see steps_of(); missing if there are none
GALLERY_NFC = "NFC"  # the step that uses no query; the others are transductive
MODULE = "module"  # key of the module of the data set's class, because several packages may have a class of one name
TRAINED, EVALUATED = "results.json", "results_eval.json"  # of a run; of a later evaluation in the folder of a training


def save_results(results: dict, cfg, eval_only: bool = False) -> str:
    """Writes the metrics, the CMC curve and the module of each data set into OUTPUT_DIR.

    Args:
        results: as fast-reid's DefaultTrainer.test() returns them, for one data set or for several.
        cfg: of the run.
        eval_only: whether the run was an evaluation, which keeps the results of a training in the same folder.

    Returns:
        The path of the file: {data set: {metric: value in %}}, with the keys CMC, CAMERA_RULE, STEPS and MODULE for
        each set.
    """
    tests = cfg.DATASETS.TESTS
    by_set = {tests[0]: results} if len(set(tests)) == 1 else results  # fast-reid has two forms
    plain = {name: {metric: float(value) for metric, value in metrics.items()} for name, metrics in by_set.items()}
    curves = list(RECENT_CMC)[-len(tests) :]
    if len(curves) == len(tests):
        for name, curve in zip(tests, curves, strict=True):
            plain[name][CMC] = [round(100 * float(rank), 4) for rank in curve]
    for name, metrics in plain.items():
        metrics |= recorded_settings(cfg)
        if kind := DATASET_REGISTRY._obj_map.get(name):
            metrics[MODULE] = kind.__module__
    trained_here = os.path.exists(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"))
    path = os.path.join(cfg.OUTPUT_DIR, EVALUATED if eval_only and trained_here else TRAINED)
    write_atomically(path, lambda file: file.write(json.dumps(plain, indent=2).encode()))
    return path


def recorded_settings(cfg) -> dict:
    """Returns the settings without which figures cannot be compared, by their keys in a file of results."""
    steps = steps_of(cfg)
    return {CAMERA_RULE: applies_camera_rule(cfg)} | ({STEPS: steps} if steps else {})


def steps_of(cfg) -> list[str]:
    """Returns the names of the steps of an evaluation that change descriptors or distances, in their order."""
    steps = []
    if applies_nfc(cfg):
        steps.append(f"{GALLERY_NFC} of query and gallery" if cfg.TEST.NFC.SIDES == "both" else GALLERY_NFC)
    names = {"query expansion": cfg.TEST.AQE, "re-ranking": cfg.TEST.RERANK}
    return steps + [name for name, step in names.items() if step.ENABLED]


def read_results(path: str) -> dict[str, dict]:
    """Returns {data set: {metric: value}} from a file of save_results().

    Raises:
        InputError: the file is missing or damaged.
    """
    folder = os.path.dirname(path)
    try:
        with open(path, encoding="utf-8") as file:
            results = json.load(file)
        for metrics in results.values():
            values = [metrics[name] for name in METRICS if name in metrics] + metrics.get(CMC, [])
            if not all(isinstance(each, (int, float)) for each in values):
                raise ValueError("a metric is no number")
            if not all(isinstance(each, str) for each in metrics.get(STEPS, [])):
                raise ValueError("a step is no text")
        return results
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {folder} holds no finished run of tools/train_net.py") from None
    except (AttributeError, OSError, TypeError, ValueError) as error:  # the first and third: JSON of another form
        raise InputError(f"{path} is damaged: remove it, or evaluate {folder} again ({error})") from None


def shown_name(data_set: str, metrics: dict) -> str:
    """Returns a name for tables and figures, which marks figures that cannot be compared with others.

    Args:
        metrics: of a data set, as read_results() returns them, or recorded_settings() of a config.

    Example:
        >>> shown_name("MyData", {"mAP": 40.0}), shown_name("MyData", {"mAP": 50.0, CAMERA_RULE: False})
        ('MyData', 'MyData (without the camera rule)')
        >>> shown_name("MyData", {STEPS: ["NFC"]}), shown_name("MyData", {STEPS: ["NFC", "re-ranking"]})
        ('MyData (NFC)', 'MyData (transductive: NFC, re-ranking)')
    """
    marks = [] if metrics.get(CAMERA_RULE, True) else ["without the camera rule"]
    marks += [mark_of(steps)] if (steps := metrics.get(STEPS)) else []
    return f"{data_set} ({'; '.join(marks)})" if marks else data_set


def mark_of(steps: list[str]) -> str:
    """Returns the steps of steps_of() as one text, which calls them transductive if one uses the other queries."""
    return ("" if set(steps) <= {GALLERY_NFC} else "transductive: ") + ", ".join(steps)


def summarize(paths: list[str]) -> str:
    """Returns a table with one row for each run and data set, and the paths of the files if there is one run.

    Random splits of one protocol, such as OccludedREIDHalfSplit0 to 9, get one more row with their mean and standard
    deviation (of the sample).

    Args:
        paths: folders of runs, or files of save_results().

    Raises:
        InputError: a run has no results.
    """
    rows = []
    for path in paths:
        path = os.path.join(path, TRAINED) if os.path.isdir(path) else path
        output_dir, by_set = os.path.dirname(path), read_results(path)
        rows += [(output_dir, name, metrics) for name, metrics in by_set.items()]
    cells = [
        (run, shown_name(name, metrics), *(f"{metrics[each]:.1f}" if each in metrics else "" for each in METRICS))
        for run, name, metrics in rows
    ]
    table = tabulate(
        cells + means_of_splits(rows),
        headers=("run", "data set", *METRICS),
        tablefmt="pipe",
        disable_numparse=True,
        colalign=("left", "left", *len(METRICS) * ("right",)),
    )
    files = f"\n\n{tabulate(files_of(output_dir), tablefmt='plain')}" if len(paths) == 1 else ""
    return f"\n{table}{files}"


def means_of_splits(rows: list[tuple[str, str, dict]]) -> list[tuple[str, ...]]:
    """Returns a row of cells for each run and protocol with several random splits.

    Args:
        rows: run, data set, its metrics. The folders ``split0``, ``split1``, ... of one folder are one run.
    """
    by_protocol = {}
    for run, name, metrics in rows:
        if name in PROTOCOL_OF:
            run = os.path.dirname(run) if re.fullmatch(r"split\d+", os.path.basename(run)) else run
            protocol = shown_name(PROTOCOL_OF[name], metrics)
            by_protocol.setdefault((run, protocol), {})[name] = [metrics.get(metric) for metric in METRICS]
    means = []
    for (run, protocol), splits in by_protocol.items():
        if len(splits) > 1:
            columns = zip(*splits.values(), strict=True)
            cells = (f"{mean(column):.1f} ± {stdev(column):.1f}" if None not in column else "" for column in columns)
            means.append((f"{run}: mean ± standard deviation of {len(splits)}", protocol, *cells))
    return means


def files_of(output_dir: str) -> list[tuple[str, str]]:
    """Returns (what it is, path) of each file of a run that exists; of tensorboard's the command that shows them."""
    kinds = {
        "config": "config.yaml",
        "log": "log.txt",
        "metrics": "metrics.json",
        "weights": "model_final.pth",
        "best weights": "model_best.pth",
    }
    found = [(kind, os.path.join(output_dir, name)) for kind, name in kinds.items()]
    files = [(kind, path) for kind, path in found if os.path.isfile(path)]
    if glob("events.out.tfevents.*", root_dir=output_dir):
        files.append(("tensorboard", f"tensorboard --logdir {shlex.quote(output_dir)}"))
    return files
