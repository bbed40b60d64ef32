import pytest

from igoas_plugin.datasets.occluded_market.occlude import KINDS
from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.reports.html.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Line
from igoas_plugin.reports.html.curve_charts import cmc_chart, severity_charts, severity_points
from igoas_plugin.reports.severity_curve import Point


def chart(*lines, told=None):
    return Chart("key", "title", "description", "x", "y (%)", list(lines), told)


def test_points_lie_between_the_margins_and_zero_is_at_the_bottom():
    drawn = chart(Line("a", [(0, 0.0), (5, 50.0)]))
    assert drawn.path(drawn.lines[0]) == f"{LEFT:.1f},{drawn.bottom:.1f} {WIDTH - RIGHT:.1f},{TOP:.1f}"
    assert drawn.bottom < HEIGHT and drawn.dots(drawn.lines[0]) == [(LEFT, drawn.bottom), (WIDTH - RIGHT, TOP)]
    assert chart(Line("a", [(0, 0.0), (5, 50.0)], dots=False)).dots(Line("a", [(0, 1.0)], False)) == []


@pytest.mark.parametrize(
    "highest, top, last", [(0.0, 10, "10"), (3.0, 10, "10"), (50.0, 50, "50"), (50.1, 60, "60"), (100.0, 100, "100")]
)
def test_the_axis_ends_at_the_ten_above_the_highest_point(highest, top, last):
    drawn = chart(Line("a", [(1, highest)]))
    assert drawn.y_max == top and drawn.y_ticks[-1].label == last and drawn.y_ticks[0].label == "0"


def test_many_ranks_have_a_tick_a_ten():
    assert [tick.label for tick in chart(Line("a", [(x, x) for x in range(1, 31)])).x_ticks] == ["1", "10", "20", "30"]
    assert [tick.label for tick in chart(Line("a", [(x, x) for x in range(6)])).x_ticks] == list("012345")


def test_the_table_beside_a_chart_has_its_numbers_and_a_dash_where_a_line_has_none():
    drawn = chart(Line("a", [(0, 1.0), (1, 2.25)]), Line("b", [(1, 3.0)]))
    assert drawn.rows == [("0", "1.0", "-"), ("1", "2.2", "3.0")]


def test_the_cmc_tells_its_usual_ranks_in_words_and_in_the_table():
    drawn = cmc_chart("Some", [10.0 + rank for rank in range(1, 51)])
    assert drawn.rows == [("1", "11.0"), ("5", "15.0"), ("10", "20.0"), ("20", "30.0"), ("50", "60.0")]
    assert "15.0 % within rank 5" in drawn.description and "Some" in drawn.title


def test_severities_of_one_evaluation_are_a_curve_where_there_are_two():
    values = {"OccludedMarket1501S4": 20.0, "Market1501": 60.0, "OccludedMarket1501": 30.0, "Other": 1.0}
    metrics = {name: dict.fromkeys(METRICS, value) for name, value in values.items()}
    points = severity_points(metrics)
    assert [(point.severity, point.metrics["mAP"]) for point in points] == [(0, 60.0), (3, 30.0), (4, 20.0)]
    rank_1, mean_ap = severity_charts(points)
    assert rank_1.title == "Rank-1 by severity: this evaluation" and [line.name for line in mean_ap.lines] == [
        "all kinds"
    ]
    assert "all kinds from 60.0 % at severity 0 to 20.0 % at severity 4" in rank_1.description
    assert severity_points({"Market1501": metrics["Market1501"], "Other": metrics["Other"]}) == []


def test_a_file_of_curves_gives_two_charts_a_model_and_a_line_a_kind():
    points = [
        Point(model, kind, level, dict.fromkeys(METRICS, 50.0)) for model in "ab" for kind in KINDS for level in (0, 1)
    ]
    charts = severity_charts(points)
    assert [drawn.title for drawn in charts] == [
        f"{metric} by severity: {model}" for model in "ab" for metric in ("Rank-1", "mAP")
    ]
    assert all([line.name for line in drawn.lines] == ["all kinds", *KINDS[1:]] for drawn in charts)
    assert len({drawn.key for drawn in charts}) == 4
