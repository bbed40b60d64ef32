"""The plots of a comparison: bars, CMC curves, training curves."""

import io
import os
from statistics import mean, stdev

from ..host.checkpoints import write_atomically
from .measures import Row, epochs_of
from .runs import Run


def write_plots(rows: list[Row], runs: list[Run], output: str) -> list[str]:
    """Writes bars.png, cmc.png and training.png where there is something to plot; returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    made = []
    for name, draw in (("bars", draw_bars), ("cmc", draw_cmc), ("training", lambda plot, _: draw_training(plot, runs))):
        figure = draw(pyplot, rows)
        if figure is None:
            continue
        figure.tight_layout()
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=120)
        pyplot.close(figure)
        path = os.path.join(output, f"{name}.png")
        write_atomically(path, lambda file, content=content: file.write(content.getvalue()))
        made.append(path)
    return made


def draw_bars(pyplot, rows: list[Row]):
    """Rank-1 and mAP of each config, one panel a data set, with the standard deviation over the seeds."""
    rows = [row for row in rows if row.seeds]
    sets, names = (list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("data_set", "name"))
    if not rows:
        return None
    height = 1.2 + 0.45 * len(names)
    figure, panels = pyplot.subplots(len(sets), 2, figsize=(9, height * len(sets)), squeeze=False, sharey="row")
    for panel_row, data_set in zip(panels, sets, strict=True):
        for panel, metric in zip(panel_row, ("Rank-1", "mAP"), strict=True):
            own = [(row.name, row.metrics[metric]) for row in rows if row.data_set == data_set]
            panel.barh(
                [name for name, _ in own],
                [figure.mean for _, figure in own],
                xerr=[figure.deviation or 0 for _, figure in own],
                color=[f"C{names.index(name)}" for name, _ in own],
            )
            panel.set(title=data_set, xlabel=f"{metric} (%)")
        panel_row[0].invert_yaxis()  # of both, which share it: in the order of the table
    return figure


def draw_cmc(pyplot, rows: list[Row]):
    """The share of queries found up to each rank, one panel a data set."""
    rows = [row for row in rows if row.cmc]
    sets = list(dict.fromkeys(row.data_set for row in rows))
    if not rows:
        return None
    figure, panels = pyplot.subplots(1, len(sets), figsize=(4.5 * len(sets), 4), squeeze=False)
    for panel, data_set in zip(panels[0], sets, strict=True):
        for row in rows:
            if row.data_set == data_set:
                panel.plot(range(1, len(row.cmc) + 1), row.cmc, label=row.name)
        panel.set(title=data_set, xlabel="rank", ylabel="queries found (%)")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    return figure


def draw_training(pyplot, runs: list[Run]):
    """The total loss by iteration: mean over the seeds, and a band of one standard deviation."""
    curves = {}
    for run in runs:
        # an iteration that a resumed run did again is there twice: the later one counts
        own = {line["iteration"] + 1: line["total_loss"] for line in epochs_of(run) if "total_loss" in line}
        for iteration, loss in own.items():
            curves.setdefault(run.name, {}).setdefault(iteration, []).append(loss)
    if not curves:
        return None
    figure, panel = pyplot.subplots(figsize=(7, 4))
    for name, by_iteration in curves.items():
        iterations = sorted(by_iteration)
        middle = [mean(by_iteration[each]) for each in iterations]
        spread = [stdev(by_iteration[each]) if len(by_iteration[each]) > 1 else 0 for each in iterations]
        [line] = panel.plot(iterations, middle, ".-", label=name)
        low, high = zip(*((m - s, m + s) for m, s in zip(middle, spread, strict=True)), strict=True)
        panel.fill_between(iterations, low, high, color=line.get_color(), alpha=0.2)
    panel.set(xlabel="iteration", ylabel="total loss")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    return figure
