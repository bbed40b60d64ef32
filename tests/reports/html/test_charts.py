import base64
import xml.etree.ElementTree as ElementTree

from matplotlib.figure import Figure

from igoas_plugin.datasets.occluded_market.occlude import KINDS
from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.reports.html import charts
from igoas_plugin.reports.html.charts import cmc_chart, severity_charts, severity_points
from igoas_plugin.reports.severity_curve import Point


def test_the_cmc_is_a_picture_and_a_table_of_its_usual_ranks():
    drawn = cmc_chart("Some", [10.0 + rank for rank in range(1, 51)])
    assert drawn.rows == [(1, "11.0"), (5, "15.0"), (10, "20.0"), (20, "30.0"), (50, "60.0")]
    assert drawn.title in drawn.picture.alt and "Some" in drawn.title
    picture = base64.b64decode(drawn.picture.uri.removeprefix("data:image/svg+xml;base64,"), validate=True)
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert cmc_chart("Short", [1.0, 2.0]).rows == [(1, "1.0")]


def test_severities_of_one_evaluation_are_a_curve_where_there_are_two():
    values = {"OccludedMarket1501S4": 20.0, "Market1501": 60.0, "OccludedMarket1501": 30.0, "Other": 1.0}
    metrics = {name: dict.fromkeys(METRICS, value) for name, value in values.items()}
    points = severity_points(metrics)
    assert [(point.severity, point.metrics["mAP"]) for point in points] == [(0, 60.0), (3, 30.0), (4, 20.0)]
    [drawn] = severity_charts(points)
    assert drawn.title == "Rank-1 and mAP by severity: all kinds"
    assert drawn.heads == ["severity", "this evaluation, Rank-1 (%)", "this evaluation, mAP (%)"]
    assert drawn.rows == [(0, "60.0", "60.0"), (3, "30.0", "30.0"), (4, "20.0", "20.0")]
    assert severity_points({"Market1501": metrics["Market1501"], "Other": metrics["Other"]}) == []
    assert severity_charts([]) == []


def test_a_file_of_curves_gives_a_chart_a_kind_with_a_line_a_model(monkeypatch):
    figures, svg = [], charts.svg
    monkeypatch.setattr(charts, "svg", lambda figure, alt: figures.append(figure) or svg(Figure((1, 1)), alt))
    points = [
        Point(model, kind, level, dict.fromkeys(METRICS, 50.0)) for model in "ab" for kind in KINDS for level in (0, 1)
    ]
    drawn = severity_charts(points[1:])  # one point is missing
    assert [chart.title.split(": ")[1] for chart in drawn] == ["all kinds", *KINDS[1:]]
    assert drawn[0].rows == [(0, "-", "-", "50.0", "50.0"), (1, *4 * ["50.0"])]
    for figure in figures:
        assert [panel.get_ylabel() for panel in figure.axes] == ["Rank-1 (%)", "mAP (%)"]
        assert [[line.get_label() for line in panel.lines] for panel in figure.axes] == 2 * [["a", "b"]]
        assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["a", "b"]
