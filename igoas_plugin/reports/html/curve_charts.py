"""The curves of a page: queries found by rank, and metrics by severity of the occlusion."""

from igoas_plugin.datasets.occluded_market.occlude import KINDS, SHARES
from igoas_plugin.reports.severity_curve import Point

from .charts import Chart, Line

SHOWN = ("Rank-1", "mAP")
TOLD_RANKS = (1, 5, 10, 20, 50)
# Test sets whose queries are those of Market-1501 at a severity
SEVERITY_OF = {"Market1501": 0, "OccludedMarket1501": 3} | {
    f"OccludedMarket1501S{level}": level for level in range(1, 6)
}


def cmc_chart(data_set: str, cmc: list[float]) -> Chart:
    """The CMC of a test set.

    Args:
        data_set: its name.
        cmc: share of the queries with a match among the first 1, 2, ... images, in %.
    """
    told = [rank for rank in TOLD_RANKS if rank <= len(cmc)]
    words = ", ".join(f"{cmc[rank - 1]:.1f} % within rank {rank}" for rank in told)
    points = [(rank, value) for rank, value in enumerate(cmc, start=1)]
    title = f"Cumulative match characteristic on {data_set}"
    description = f"Share of the queries with a match among the first images, by rank: {words}."
    return Chart("cmc", title, description, "rank", "queries found (%)", [Line("CMC", points, False)], told)


def severity_points(metrics: dict[str, dict[str, float]]) -> list[Point]:
    """Severities among the test sets of one evaluation; [] where there are no two.

    Args:
        metrics: {data set: {metric: value in %}}.
    """
    by_level = {SEVERITY_OF[name]: each for name, each in metrics.items() if name in SEVERITY_OF}
    points = [Point("this evaluation", "all", level, by_level[level]) for level in sorted(by_level)]
    return points if len(points) > 1 else []


def severity_charts(points: list[Point]) -> list[Chart]:
    """A chart for each model and metric of SHOWN, with a line a kind of occlusion."""
    charts = []
    for model in dict.fromkeys(point.model for point in points):
        own = [point for point in points if point.model == model]
        kinds = [kind for kind in KINDS if any(point.kind == kind for point in own)]
        for metric in SHOWN:
            lines = [
                Line(
                    "all kinds" if kind == "all" else kind,
                    sorted((point.severity, point.metrics[metric]) for point in own if point.kind == kind),
                )
                for kind in kinds
            ]
            ends = "; ".join(
                f"{line.name} from {line.points[0][1]:.1f} % at severity {line.points[0][0]} to "
                f"{line.points[-1][1]:.1f} % at severity {line.points[-1][0]}"
                for line in lines
            )
            title, key = f"{metric} by severity: {model}", f"severity-{len(charts)}"
            description = f"{metric} as more of each query is hidden: {ends}."
            charts.append(Chart(key, title, description, "severity", f"{metric} (%)", lines))
    return charts


def hidden_shares() -> str:
    """What the severities hide of an image, in words."""
    shares = ", ".join(f"{round(100 * share)} %" for share in SHARES)
    return f"{shares} of the image at severities 0 to {len(SHARES) - 1}"
