"""Charts of a page: a matplotlib figure as SVG, and its numbers as a table."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from igoas_plugin.datasets.occluded_market.occlude import KINDS
from igoas_plugin.reports.figures.cmc_curves import draw_cmc
from igoas_plugin.reports.severity_curve import DRAWN, Point, draw_severity, kind_title

from .thumbnails import Thumbnail, svg

WIDTH = 4.2  # inches
RANKS = (1, 5, 10, 20, 50)  # in the table of a CMC
# Test sets whose queries are those of Market-1501 at a severity
SEVERITY_OF = {"Market1501": 0, "OccludedMarket1501": 3} | {
    f"OccludedMarket1501S{severity}": severity for severity in range(1, 6)
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


def severity_points(metrics: dict[str, dict[str, float]]) -> list[Point]:
    """Returns the severities among the test sets of one evaluation; [] if there are fewer than two.

    Args:
        metrics: {data set: {metric: value in %}}.
    """
    by_severity = {SEVERITY_OF[name]: each for name, each in metrics.items() if name in SEVERITY_OF}
    points = [Point("this evaluation", "all", severity, each) for severity, each in sorted(by_severity.items())]
    return points if len(points) > 1 else []


def severity_charts(points: Sequence[Point]) -> list[Chart]:
    """Draws Rank-1 and mAP by severity, a chart for each kind of occlusion and a line for each model."""
    charts = []
    for kind in KINDS:
        own = [point for point in points if point.kind == kind]
        if not own:
            continue
        models = list(dict.fromkeys(point.model for point in own))
        title = f"Rank-1 and mAP by severity: {kind_title(kind)}"
        figure = Figure(figsize=(WIDTH, 5), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        draw_severity(panels, own)
        if len(models) > 1:
            panels[0].legend(fontsize="small")
        heads, columns = ["severity"], [sorted({point.severity for point in own})]
        for model in models:
            by_severity = {point.severity: point.metrics for point in own if point.model == model}
            for metric in DRAWN:
                heads.append(f"{model}, {metric} (%)")
                columns.append(
                    [f"{by_severity[each][metric]:.1f}" if each in by_severity else "-" for each in columns[0]]
                )
        rows = list(zip(*columns, strict=True))
        charts.append(Chart(title, svg(figure, f"{title}: the table has its numbers"), heads, rows))
    return charts
