"""Figure of the CMC and training curves of several runs."""

import math
import os
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from igoas_plugin.core.errors import InputError
from igoas_plugin.engine.log_files import METRIC
from igoas_plugin.engine.metrics_file import logged_lines, values_of
from igoas_plugin.evaluation.results import CMC, EVALUATED, TRAINED, read_results, shown_name

from .figure_file import TITLE, as_label, palette

DEFAULT_SCALARS = ("total_loss", "Rank-1", "mAP")


class Curves(NamedTuple):
    """Curves in the files of a run.

    Args:
        cmc: {data set: Rank-1, Rank-2, ... in %}.
        lines: lines of metrics.json.
    """

    cmc: dict[str, list[float]]
    lines: list[dict]


def curves_picture(folders: Sequence[str], scalars: Sequence[str]) -> Figure:
    """Draws a panel with the CMC of each data set, and a panel for each scalar; each run has one colour.

    Args:
        folders: OUTPUT_DIR of each run.
        scalars: names in metrics.json. If empty, DEFAULT_SCALARS as far as they are logged; a run with several test
            sets logs Rank-1 and mAP for each of them.

    Raises:
        InputError: a folder is given twice or holds neither results nor metrics.json, a file is damaged, or no run
            has logged a scalar.
    """
    runs = {name: read_curves(folder) for name, folder in zip(names_of(folders), folders, strict=True)}
    names = list(dict.fromkeys(name for run in runs.values() for line in run.lines for name in line))
    for name in scalars:
        if name not in names:
            raise InputError(
                f"--scalars {name}: no run has logged that; there are {', '.join(sorted(names)) or 'none'}"
            )
    scalars = scalars or [name for each in DEFAULT_SCALARS for name in names if each in (name, name.split("/")[-1])]
    if not scalars and not any(run.cmc for run in runs.values()):
        raise InputError(f"no run has logged {', '.join(DEFAULT_SCALARS)}: name others by --scalars")
    return draw_curves(runs, scalars)


def names_of(folders: Sequence[str]) -> list[str]:
    """Returns the paths of the folders below their common folder; raises InputError for a folder given twice."""
    paths = [os.path.realpath(folder) for folder in folders]
    if len(set(paths)) < len(paths):
        raise InputError(f"a run is given twice: {' '.join(folders)}")
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, common) for path in paths]


def picture_of(folders: Sequence[str]) -> str:
    """Returns the path of the picture of some runs: in the folder of one run, or in the one that holds them all."""
    if len(folders) == 1:
        return os.path.join(folders[0], "curves.png")
    return os.path.join(os.path.commonpath([os.path.dirname(os.path.abspath(each)) for each in folders]), "curves.png")


def read_curves(folder: str) -> Curves:
    """Reads the curves of a run; a later evaluation (results_eval.json) adds its other data sets."""
    files = [os.path.join(folder, name) for name in (EVALUATED, TRAINED)]
    results, cmc, lines = [read_results(path) for path in files if os.path.isfile(path)], {}, logged_lines(folder)
    for by_set in results:
        cmc |= {shown_name(name, metrics): metrics[CMC] for name, metrics in by_set.items() if CMC in metrics}
    if not cmc and not lines:
        raise InputError(
            f"{folder} holds no metrics.json and no CMC in {TRAINED} or {EVALUATED}: name the OUTPUT_DIR of a run of "
            "tools/train_net.py"
        )
    return Curves(cmc, lines)


def draw_curves(runs: dict[str, Curves], scalars: Sequence[str]) -> Figure:
    """Draws the panels of {name of a run: its curves}, see curves_picture()."""
    sets = list(dict.fromkeys(name for run in runs.values() for name in run.cmc))
    colours = palette(runs)
    count = len(sets) + len(scalars)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(4.5 * columns, 3.6 * rows + 0.3 * math.ceil(len(runs) / 2) + 0.2), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for data_set in sets:
        curves = {name: run.cmc[data_set] for name, run in runs.items() if data_set in run.cmc}
        draw_cmc(panels.pop(0), data_set, curves, colours)
    for scalar in scalars:
        values = {name: values_of(run.lines, scalar) for name, run in runs.items()}
        draw_scalar(panels.pop(0), scalar, {name: [own] for name, own in values.items() if own}, colours)
    for panel in panels:
        panel.set_axis_off()
    handles = [figure.axes[0].plot([], [], color=colours[name], label=as_label(name))[0] for name in runs]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(runs), 2), fontsize="small")
    return figure


def draw_cmc(panel: Axes, data_set: str, curves: dict[str, Sequence[float]], colours: dict) -> None:
    """Draws the share of queries that found a match up to each rank.

    Args:
        curves: {name: Rank-1, Rank-2, ... in %}.
        colours: {name: colour}, see palette().
    """
    for name, ranks in curves.items():
        panel.plot(
            range(1, len(ranks) + 1), ranks, "o-" if len(ranks) == 1 else "-", label=as_label(name), color=colours[name]
        )
    panel.set(title=textwrap.fill(data_set, TITLE), xlabel="rank", ylabel="queries found (%)")
    panel.grid(alpha=0.3)


def draw_scalar(panel: Axes, scalar: str, curves: dict[str, Sequence[dict[int, float]]], colours: dict) -> None:
    """Draws a scalar of the training by iteration: mean over the seeds, and a band of one standard deviation.

    Args:
        curves: {name: [{iteration: value} of each seed]}.
        colours: {name: colour}, see palette().
    """
    percent = METRIC.fullmatch(scalar.split("/")[-1])
    for name, seeds in curves.items():
        iterations = sorted(set().union(*seeds))
        values = [[seed[iteration] for seed in seeds if iteration in seed] for iteration in iterations]
        means = np.array([np.mean(each) for each in values])
        spread = np.array([np.std(each, ddof=1) if len(each) > 1 else 0 for each in values])
        panel.plot(iterations, means, ".-", label=as_label(name), color=colours[name])
        if len(means) == 1:
            value, place = f"{means[0]:{'.1f' if percent else '.3g'}}", (iterations[0], means[0])
            panel.annotate(value, place, xytext=(6, 4), textcoords="offset points", fontsize="x-small")
        panel.fill_between(iterations, means - spread, means + spread, color=colours[name], alpha=0.2)
    panel.set(xlabel="iteration", ylabel=scalar.replace("_", " "), xlim=(0, None))
    if all(len(set().union(*seeds)) == 1 for seeds in curves.values()):  # limits around one point mean nothing
        last = max((iteration for seeds in curves.values() for seed in seeds for iteration in seed), default=1)
        panel.update_datalim([(0, 0), (0, 100 if percent else 0)])
        panel.autoscale_view()
        panel.set(xlim=(0, 1.25 * max(last, 1)))
    panel.grid(alpha=0.3)
