"""The plots of a comparison: bars, CMC curves, training curves."""

import os

from matplotlib.figure import Figure

from igoas_plugin.engine.metrics_file import logged_lines, values_of
from igoas_plugin.reports.figures.cmc_curves import draw_cmc, draw_scalar
from igoas_plugin.reports.figures.figure_file import palette, save_figure

from .measures import Row
from .runs import Run


def write_plots(rows: list[Row], runs: list[Run], output: str) -> list[str]:
    """Writes bars.png, cmc.png and training.png where there is something to plot; returns their paths."""
    figures = {"bars": bars(rows), "cmc": cmc_curves(rows), "training": training_curves(runs)}
    made = {os.path.join(output, f"{name}.png"): figure for name, figure in figures.items() if figure is not None}
    for path, figure in made.items():
        save_figure(figure, path)
    return list(made)


def bars(rows: list[Row]) -> Figure | None:
    """Rank-1 and mAP of each config, one panel a data set, with the standard deviation over the seeds."""
    rows = [row for row in rows if row.seeds]
    sets, names = (list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("data_set", "name"))
    if not rows:
        return None
    colours, height = palette(names), 1.2 + 0.45 * len(names)
    figure = Figure(figsize=(9, height * len(sets)), layout="tight")
    panels = figure.subplots(len(sets), 2, squeeze=False, sharey="row")
    for panel_row, data_set in zip(panels, sets, strict=True):
        for panel, metric in zip(panel_row, ("Rank-1", "mAP"), strict=True):
            own = [(row.name, row.metrics[metric]) for row in rows if row.data_set == data_set]
            panel.barh(
                [name for name, _ in own],
                [figure.mean for _, figure in own],
                xerr=[figure.deviation or 0 for _, figure in own],
                color=[colours[name] for name, _ in own],
            )
            panel.set(title=data_set, xlabel=f"{metric} (%)")
        panel_row[0].invert_yaxis()  # of both, which share it: in the order of the table
    return figure


def cmc_curves(rows: list[Row]) -> Figure | None:
    """The share of queries found up to each rank, one panel a data set."""
    rows = [row for row in rows if row.cmc]
    sets, names = (list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("data_set", "name"))
    if not rows:
        return None
    figure = Figure(figsize=(4.5 * len(sets), 4), layout="tight")
    for panel, data_set in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        draw_cmc(panel, data_set, {row.name: row.cmc for row in rows if row.data_set == data_set}, palette(names))
        panel.legend(fontsize="small")
    return figure


def training_curves(runs: list[Run]) -> Figure | None:
    """The total loss by iteration: mean over the seeds, and a band of one standard deviation."""
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
