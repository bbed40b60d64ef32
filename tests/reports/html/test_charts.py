import base64
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from igoas_plugin.datasets.occluded_market.occlude import KINDS
from igoas_plugin.evaluation.pair_distances import PairDistances
from igoas_plugin.evaluation.results import METRICS
from igoas_plugin.reports.html import charts
from igoas_plugin.reports.html.charts import (
    cmc_chart,
    distance_chart,
    severity_charts,
    severity_points,
    training_charts,
)
from igoas_plugin.reports.severity_curve import Point


def test_the_cmc_is_a_picture_and_a_table_of_its_usual_ranks():
    drawn = cmc_chart("Some", [10.0 + rank for rank in range(1, 51)])
    assert drawn.rows == [(1, "11.0"), (5, "15.0"), (10, "20.0"), (20, "30.0"), (50, "60.0")]
    assert drawn.title in drawn.picture.alt and "Some" in drawn.title
    picture = base64.b64decode(drawn.picture.uri.removeprefix("data:image/svg+xml;base64,"), validate=True)
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert cmc_chart("Short", [1.0, 2.0]).rows == [(1, "1.0")]


def test_severities_of_one_evaluation_are_a_curve_where_there_are_two():
    values = {"OccludedMarket1501S4": 20.0, "Market1501": 60.0, "OccludedMarket1501V2S3": 30.0, "Other": 1.0}
    metrics = {name: dict.fromkeys(METRICS, value) for name, value in values.items()}
    points = severity_points(metrics)
    assert [(point.hidden, point.metrics["mAP"]) for point in points] == [(0, 60.0), (15, 30.0), (40, 20.0)]
    [drawn] = severity_charts(points)
    assert drawn.title == "Rank-1 and mAP by hidden share: all kinds"
    assert drawn.heads == ["hidden (%)", "this evaluation, Rank-1 (%)", "this evaluation, mAP (%)"]
    assert drawn.rows == [(0, "60.0", "60.0"), (15, "30.0", "30.0"), (40, "20.0", "20.0")]
    assert severity_points({"Market1501": metrics["Market1501"], "Other": metrics["Other"]}) == []
    assert severity_charts([]) == []


@pytest.fixture
def figures(monkeypatch):
    """Collects the figures that become charts."""
    made, svg = [], charts.svg
    monkeypatch.setattr(charts, "svg", lambda figure, alt: made.append(figure) or svg(Figure((1, 1)), alt))
    return made


def logged(*evaluated, names=("mAP",), length=10, epochs=4) -> list[dict]:
    """Returns lines of metrics.json with a loss after each epoch and in the middle of the second."""
    lines = [{"iteration": length * epoch - 1, "total_loss": 5.0 - epoch} for epoch in range(1, epochs + 1)]
    lines.insert(1, {"iteration": length + 4, "total_loss": 3.5})
    for line in lines:
        if line["iteration"] + 1 in [length * epoch for epoch in evaluated]:
            line |= dict.fromkeys(names, 20.0 + line["iteration"])
    return lines


def test_loss_and_map_are_curves_by_epoch_counted_from_1(figures):
    loss, precision = training_charts(logged(2, 4), eval_period=2, epochs=4)
    assert (loss.title, loss.heads) == ("Training: total loss by epoch", ["epoch", "total loss"])
    assert loss.rows == [(1, "4"), (2, "3"), (3, "2"), (4, "1")]
    assert (precision.title, precision.heads) == ("Training: mAP (%) by epoch", ["epoch", "mAP (%)"])
    assert precision.rows == [(2, "39"), (4, "59")]
    drawn = [[line.get_xydata().tolist() for line in figure.axes[0].lines] for figure in figures]
    assert drawn == [[[[1, 4], [2, 3], [3, 2], [4, 1]]], [[[2, 39], [4, 59]]]]
    assert not figures[0].axes[0].texts and not figures[1].axes[0].texts


def test_one_evaluation_is_a_point_with_its_value(figures):
    training_charts(logged(4), eval_period=0, epochs=4)
    assert [text.get_text() for text in figures[1].axes[0].texts] == ["59"]


def test_each_of_several_test_sets_has_a_curve_of_its_own(figures):
    _, precision = training_charts(logged(4, names=("A/mAP", "B/mAP")), eval_period=0, epochs=4)
    assert (precision.heads, precision.rows) == (["epoch", "A", "B"], [(4, "59", "59")])
    assert [text.get_text() for text in figures[1].axes[0].get_legend().get_texts()] == ["A", "B"]


def test_where_the_length_of_an_epoch_is_not_known_iterations_count():
    [loss] = training_charts(logged(), eval_period=2, epochs=4)
    assert loss.title == "Training: total loss by iteration"
    assert loss.rows == [(10, "4"), (15, "3.5"), (20, "3"), (30, "2"), (40, "1")]
    # first evaluated after its last epoch, the fourth, and continued with another MAX_EPOCH: no epoch ends at 5
    assert training_charts(logged(4, 8, epochs=8), eval_period=8, epochs=8)[0].title == loss.title


def test_a_run_without_metrics_json_has_no_curves_and_a_loss_that_is_not_finite_is_left_out():
    assert training_charts([], eval_period=1, epochs=4) == []
    [loss] = training_charts([{"iteration": 0, "total_loss": 2.0}, {"iteration": 1, "total_loss": float("nan")}], 1, 1)
    assert loss.rows == [(1, "2")]


def test_right_and_wrong_pairs_have_a_distribution_each_in_the_colours_of_their_frames(figures):
    pairs = PairDistances()
    pairs.add(np.array([0.25, 0.26, 0.75, 0.999]), np.array([True, True, False, False]))
    drawn = distance_chart("Some", pairs, "cosine distance")
    assert (drawn.title, len(drawn.rows)) == ("Distances of pairs on Some", 64)
    assert drawn.rows[16] == ("0.25 to 0.2656", "100.00", "0.00")
    assert drawn.rows[48][2] == drawn.rows[63][2] == "50.00"
    [panel] = figures[0].axes
    assert panel.get_xlabel() == "cosine distance" and panel.get_xlim() == (0, 1)
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["✓ right: 2", "✗ wrong: 2"]
    assert distance_chart("Some", PairDistances(), "cosine distance") is None


def test_a_file_of_curves_gives_a_chart_a_kind_with_a_line_a_model(figures):
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
