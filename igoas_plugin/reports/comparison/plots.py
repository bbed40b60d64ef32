"""Plots of a comparison: bars, CMC curves, training curves."""

import os
import textwrap

from matplotlib.figure import Figure

from igoas_plugin.engine.metrics_file import logged_lines, values_of
from igoas_plugin.reports.figures.cmc_curves import draw_cmc, draw_scalar
from igoas_plugin.reports.figures.figure_file import TITLE, palette, save_figure

from .measures import ONE_SEED, Row, one_seed
from .runs import Run


def write_plots(rows: list[Row], runs: list[Run], output: str) -> None:
    """Writes bars.png, cmc.png and training.png, if a run has finished."""
    rows = [row for row in rows if row.seeds]
    if not rows:
        return
    colours = palette(dict.fromkeys(row.name for row in rows))
    sets = list(dict.fromkeys(row.data_set for row in rows))
    figures = {
        "bars": bars(rows, sets, colours),
        "cmc": cmc_curves(rows, sets, colours),
        "training": training_curves(runs, colours),
    }
    for name, figure in figures.items():
        save_figure(figure, os.path.join(output, f"{name}.png"))


def bars(rows: list[Row], sets: list[str], colours: dict) -> Figure:
    """Draws Rank-1 and mAP of each config with the deviation over the seeds, a row of panels for each test set."""
    figure = Figure(figsize=(9, (1.2 + 0.45 * len(colours)) * len(sets)), layout="tight")
    panels = figure.subplots(len(sets), 2, squeeze=False, sharey="row")
    for panel_row, data_set in zip(panels, sets, strict=True):
        for panel, metric in zip(panel_row, ("Rank-1", "mAP"), strict=True):
            own = [(row.name, row.metrics[metric]) for row in rows if row.data_set == data_set]
            drawn = panel.barh(
                [name for name, _ in own],
                [value.mean for _, value in own],
                xerr=[value.deviation or 0 for _, value in own],
                color=[colours[name] for name, _ in own],
            )
            panel.bar_label(drawn, [str(value) for _, value in own], padding=3)
            panel.margins(x=0.3)  # for the labels
            unit = f"{metric} (%)" + (f", {ONE_SEED}" if one_seed(rows) else "")
            panel.set(title=textwrap.fill(data_set, TITLE), xlabel=unit)
        panel_row[0].invert_yaxis()  # both panels share the axis: the first config stands above
    return figure


def cmc_curves(rows: list[Row], sets: list[str], colours: dict) -> Figure:
    """Draws the share of queries found up to each rank, one panel for each test set."""
    figure = Figure(figsize=(4.5 * len(sets), 4), layout="tight")
    for panel, data_set in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        draw_cmc(panel, data_set, {row.name: row.cmc for row in rows if row.data_set == data_set}, colours)
        panel.legend(fontsize="small")
    return figure


def training_curves(runs: list[Run], colours: dict) -> Figure:
    """Draws the total loss of each config by iteration: mean over the seeds, and a band of one standard deviation."""
    curves = {name: [] for name in colours}
    for run in runs:
        if run.name in curves:
            curves[run.name].append(values_of(logged_lines(run.folder), "total_loss"))
    figure = Figure(figsize=(7, 4), layout="tight")
    panel = figure.subplots()
    draw_scalar(panel, "total_loss", curves, colours)
    panel.legend(fontsize="small")
    return figure
