"""Plots of a comparison: bars, CMC curves, training curves."""

import os

from matplotlib.figure import Figure

from igoas_plugin.engine.metrics_file import logged_lines, values_of
from igoas_plugin.reports.figures.cmc_curves import draw_cmc, draw_scalar
from igoas_plugin.reports.figures.figure_file import palette, save_figure

from .measures import Row
from .runs import Run


def write_plots(rows: list[Row], runs: list[Run], output: str) -> list[str]:
    """Writes bars.png, cmc.png and training.png, each if there is something to plot; returns their paths."""
    figures = {"bars": bars(rows), "cmc": cmc_curves(rows), "training": training_curves(runs)}
    written = {os.path.join(output, f"{name}.png"): figure for name, figure in figures.items() if figure is not None}
    for path, figure in written.items():
        save_figure(figure, path)
    return list(written)


def bars(rows: list[Row]) -> Figure | None:
    """Draws Rank-1 and mAP of each config with the deviation over the seeds, a row of panels for each test set."""
    rows = [row for row in rows if row.seeds]
    if not rows:
        return None
    sets, names = (list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("data_set", "name"))
    colours, height = palette(names), 1.2 + 0.45 * len(names)
    figure = Figure(figsize=(9, height * len(sets)), layout="tight")
    panels = figure.subplots(len(sets), 2, squeeze=False, sharey="row")
    for panel_row, data_set in zip(panels, sets, strict=True):
        for panel, metric in zip(panel_row, ("Rank-1", "mAP"), strict=True):
            own = [(row.name, row.metrics[metric]) for row in rows if row.data_set == data_set]
            panel.barh(
                [name for name, _ in own],
                [value.mean for _, value in own],
                xerr=[value.deviation or 0 for _, value in own],
                color=[colours[name] for name, _ in own],
            )
            panel.set(title=data_set, xlabel=f"{metric} (%)")
        panel_row[0].invert_yaxis()  # both panels share the axis: the first config stands above
    return figure


def cmc_curves(rows: list[Row]) -> Figure | None:
    """Draws the share of queries found up to each rank, one panel for each test set."""
    rows = [row for row in rows if row.cmc]
    if not rows:
        return None
    sets, names = (list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("data_set", "name"))
    figure = Figure(figsize=(4.5 * len(sets), 4), layout="tight")
    for panel, data_set in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        draw_cmc(panel, data_set, {row.name: row.cmc for row in rows if row.data_set == data_set}, palette(names))
        panel.legend(fontsize="small")
    return figure


def training_curves(runs: list[Run]) -> Figure | None:
    """Draws the total loss by iteration: mean over the seeds, and a band of one standard deviation."""
    curves = {}
    for run in runs:
        if losses := values_of(logged_lines(run.folder), "total_loss"):
            curves.setdefault(run.name, []).append(losses)
    if not curves:
        return None
    figure = Figure(figsize=(7, 4), layout="tight")
    panel = figure.subplots()
    draw_scalar(panel, "total_loss", curves, palette(curves))
    panel.legend(fontsize="small")
    return figure
