"""Charts of a page: a matplotlib figure as SVG, and its numbers as a table."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from igoas_plugin.datasets.occluded_market.occlude import KINDS, hidden_share
from igoas_plugin.engine.metrics_file import epoch_length, is_map, values_of
from igoas_plugin.evaluation.pair_distances import PairDistances
from igoas_plugin.reports.figures.cmc_curves import draw_cmc
from igoas_plugin.reports.figures.figure_file import as_label
from igoas_plugin.reports.figures.rank_figure import FRAMES
from igoas_plugin.reports.severity_curve import DRAWN, Point, draw_severity, kind_title

from .thumbnails import Thumbnail, svg

WIDTH = 4.2  # inches
SMALL = 3.15, 2.6  # inches: three of these charts fit beside each other
RANKS = (1, 5, 10, 20, 50)  # in the table of a CMC
# Test sets whose queries are those of Market-1501, and the share of each query that is hidden, in %
HIDDEN_SHARE = {"Market1501": 0, "OccludedMarket1501": hidden_share(3, 1)} | {
    f"OccludedMarket1501{name}S{severity}": hidden_share(severity, version)
    for version, name in ((1, ""), (2, "V2"))
    for severity in range(1, 6)
}


class Chart(NamedTuple):
    """Chart with the table of its numbers."""

    title: str
    picture: Thumbnail
    heads: list[str]
    rows: list[tuple]


def cmc_chart(data_set: str, cmc: Sequence[float]) -> Chart:
    """Draws the CMC of a test set.

    Args:
        cmc: Rank-1, Rank-2, ..., in %.
    """
    title = f"Cumulative match characteristic on {data_set}"
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    draw_cmc(figure.subplots(), data_set, {"CMC": cmc}, {"CMC": "C0"})
    rows = [(rank, f"{cmc[rank - 1]:.1f}") for rank in RANKS if rank <= len(cmc)]
    return Chart(title, svg(figure, f"{title}: the table has its numbers"), ["rank", "queries found (%)"], rows)


def training_charts(lines: list[dict], eval_period: int, epochs: int) -> list[Chart]:
    """Draws the total loss and the mAP after each epoch, counted from 1; [] of a run without metrics.json.

    The charts have all logged iterations if the length of an epoch cannot be known, see epoch_length().

    Args:
        lines: lines of metrics.json.
        eval_period: TEST.EVAL_PERIOD.
        epochs: SOLVER.MAX_EPOCH.
    """
    length = epoch_length(lines, eval_period, epochs)
    unit, length = ("epoch", length) if length else ("iteration", 1)
    scalars = {"total loss": ["total_loss"]}
    scalars["mAP (%)"] = list(dict.fromkeys(name for line in lines for name in line if is_map(name)))
    charts = []
    for label, names in scalars.items():
        curves = {}
        for name in names:
            head = label if name in ("total_loss", "mAP") else name.removesuffix("/mAP")
            values = values_of(lines, name)
            curves[head] = {
                at // length: value for at, value in values.items() if at % length == 0 and math.isfinite(value)
            }
        if any(curves.values()):
            charts.append(training_chart(label, unit, curves))
    return charts


def training_chart(label: str, unit: str, curves: dict[str, dict[int, float]]) -> Chart:
    """Draws a scalar of a training, with a line for each of {name: {number of the epoch or iteration: value}}."""
    title = f"Training: {label} by {unit}"
    figure = Figure(figsize=SMALL, layout="constrained")
    panel = figure.subplots()
    for name, values in curves.items():
        panel.plot(values.keys(), values.values(), ".-", label=as_label(name))
        if len(values) == 1:  # of a training with one evaluation
            [(at, value)] = values.items()
            panel.annotate(f"{value:.3g}", (at, value), (-6, 0), textcoords="offset points", ha="right", va="center")
    if len(curves) > 1:
        panel.legend(fontsize="x-small")
    panel.set(title=title, xlabel=unit, ylabel=label, xlim=(0, None), ylim=(0, None))
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.grid(alpha=0.3)
    rows = [
        (at, *(f"{values[at]:.3g}" if at in values else "-" for values in curves.values()))
        for at in sorted(set().union(*curves.values()))
    ]
    return Chart(title, svg(figure, f"{title}: the table has its numbers"), [unit, *curves], rows)


def distance_chart(data_set: str, pairs: PairDistances, distance: str) -> Chart | None:
    """Draws the distribution of the distances of right and of wrong pairs; None if no distance is finite.

    Args:
        pairs: the pairs of a query and a gallery image.
        distance: name of the distance.
    """
    edges = pairs.edges
    if len(edges) < 2:
        return None
    title = f"Distances of pairs on {data_set}"
    figure = Figure(figsize=SMALL, layout="constrained")
    panel = figure.subplots()
    shares = {state: pairs.shares(state) for state in pairs.counts}
    for state, each in shares.items():
        colour, line, mark = FRAMES[state]
        label = f"{mark} {state}: {pairs.counts[state].sum():,}"
        panel.stairs(each, edges, fill=True, color=colour, alpha=0.25)
        panel.stairs(each, edges, color=colour, linestyle="--" if state == "wrong" else line, label=label)
    panel.set(title=as_label(title), xlabel=distance, ylabel="share of the pairs (%)", xlim=(0, edges[-1]))
    panel.legend(fontsize="small")
    rows = [
        (f"{start:.4g} to {end:.4g}", f"{right:.2f}", f"{wrong:.2f}")
        for start, end, right, wrong in zip(edges[:-1], edges[1:], *shares.values(), strict=True)
    ]
    heads = ["distance", "right pairs (%)", "wrong pairs (%)"]
    return Chart(title, svg(figure, f"{title}: the table has its numbers"), heads, rows)


def severity_points(metrics: dict[str, dict[str, float]], model: str = "this evaluation") -> list[Point]:
    """Returns the severities of OccludedMarket1501 among the test sets of one evaluation; [] if fewer than two.

    Args:
        metrics: {data set: {metric: value in %}}.
        model: name of the line in a figure.
    """
    by_share = {HIDDEN_SHARE[name]: each for name, each in metrics.items() if name in HIDDEN_SHARE}
    points = [Point(model, "all", share, by_share[share]) for share in sorted(by_share)]
    return points if len(points) > 1 else []


def severity_charts(points: Sequence[Point]) -> list[Chart]:
    """Draws Rank-1 and mAP by hidden share, a chart for each kind of occlusion and a line for each model."""
    charts = []
    for kind in KINDS:
        own = [point for point in points if point.kind == kind]
        if not own:
            continue
        models = list(dict.fromkeys(point.model for point in own))
        title = f"Rank-1 and mAP by hidden share: {kind_title(kind)}"
        figure = Figure(figsize=(WIDTH, 5), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        draw_severity(panels, own)
        if len(models) > 1:
            panels[0].legend(fontsize="small")
        heads, columns = ["hidden (%)"], [sorted({point.hidden for point in own})]
        for model in models:
            by_share = {point.hidden: point.metrics for point in own if point.model == model}
            for metric in DRAWN:
                heads.append(f"{model}, {metric} (%)")
                columns.append([f"{by_share[each][metric]:.1f}" if each in by_share else "-" for each in columns[0]])
        rows = list(zip(*columns, strict=True))
        charts.append(Chart(title, svg(figure, f"{title}: the table has its numbers"), heads, rows))
    return charts
