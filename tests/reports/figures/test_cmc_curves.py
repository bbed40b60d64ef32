import json

import numpy as np
import pytest

from igoas_plugin.core.errors import InputError
from igoas_plugin.engine.metrics_file import logged_lines, values_of
from igoas_plugin.reports.figures.cmc_curves import curves_picture, picture_of


def make_run(folder, losses, ranks=None, results=None, results_eval=None, sets=("Drawn",)):
    folder.mkdir(parents=True)
    lines = [{"iteration": 10 * number + 9, "total_loss": loss} for number, loss in enumerate(losses)]
    for line, rank in zip(lines, ranks or [], strict=False):
        line.update({"Rank-1": rank, "mAP": rank / 2} if len(sets) == 1 else {f"{name}/Rank-1": rank for name in sets})
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    for name, cmc in (("results.json", results), ("results_eval.json", results_eval)):
        if cmc:
            (folder / name).write_text(json.dumps({each: {"Rank-1": 1.0, "CMC": ranks} for each, ranks in cmc.items()}))
    return str(folder)


def panels_of(figure):
    """Returns {title or label of a panel: {name of a run: its points}}."""
    shown = {}
    for panel in figure.axes:
        if panel.axison:
            lines = {line.get_label(): line.get_xydata().tolist() for line in panel.lines if len(line.get_xdata())}
            shown[panel.get_title() or panel.get_ylabel()] = lines
    return shown


def test_runs_share_a_panel_for_each_data_set_and_scalar(tmp_path):
    a = make_run(tmp_path / "a", [3, 2], ranks=[10, 20], results={"Drawn": [50.0, 60.0]})
    b = make_run(tmp_path / "b", [4], results={"Drawn": [70.0, 80.0], "Other": [1.0]})
    figure = curves_picture([a, b], [])
    assert panels_of(figure) == {
        "Drawn": {"a": [[1, 50], [2, 60]], "b": [[1, 70], [2, 80]]},
        "Other": {"b": [[1, 1]]},
        "total loss": {"a": [[10, 3], [20, 2]], "b": [[10, 4]]},
        "Rank-1": {"a": [[10, 10], [20, 20]]},
        "mAP": {"a": [[10, 5], [20, 10]]},
    }
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    colours = {line.get_label(): line.get_color() for line in legend.get_lines()}
    for panel in figure.axes:
        assert all(line.get_color() == colours[line.get_label()] for line in panel.lines)


def test_a_long_mark_stands_on_a_line_of_its_own(tmp_path):
    steps = {"OccludedMarket1501S3": {"CMC": [90.0], "steps": ["NFC of query and gallery", "re-ranking"]}}
    (tmp_path / "results.json").write_text(json.dumps(steps))
    title = "OccludedMarket1501S3 (transductive: NFC of\nquery and gallery, re-ranking)"
    assert title in panels_of(curves_picture([str(tmp_path)], []))


def test_a_curve_without_the_camera_rule_has_a_panel_of_its_own(tmp_path):
    run = make_run(tmp_path / "a", [], results={"Drawn": [50.0]})
    without = {"Drawn": {"CMC": [90.0], "TEST.CAMERA_RULE": False}}
    (tmp_path / "a" / "results_eval.json").write_text(json.dumps(without))
    assert panels_of(curves_picture([run], [])) == {
        "Drawn": {"a": [[1, 50]]},
        "Drawn (without the camera rule)": {"a": [[1, 90]]},
    }


def test_metrics_of_several_sets_have_a_panel_each_and_scalars_can_be_chosen(tmp_path):
    run = make_run(tmp_path / "a", [3], ranks=[10], sets=("Drawn", "Other"))
    assert list(panels_of(curves_picture([run], []))) == ["total loss", "Drawn/Rank-1", "Other/Rank-1"]
    assert list(panels_of(curves_picture([run], ["Other/Rank-1"]))) == ["Other/Rank-1"]


def test_a_later_evaluation_adds_its_data_sets_to_those_of_the_training(tmp_path):
    run = make_run(tmp_path / "a", [], results={"Drawn": [50.0]}, results_eval={"Drawn": [1.0], "Other": [2.0]})
    assert panels_of(curves_picture([run], [])) == {"Drawn": {"a": [[1, 50]]}, "Other": {"a": [[1, 2]]}}


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    runs = [make_run(tmp_path / "Toy" / name / "seed.0", [1]) for name in ("a", "b")]
    assert list(panels_of(curves_picture(runs, []))["total loss"]) == ["a/seed.0", "b/seed.0"]


def test_what_was_logged_from_where_a_training_went_on_or_began_anew_is_left_out(tmp_path):
    run = make_run(tmp_path / "a", [3, 2])
    with open(tmp_path / "a" / "metrics.json", "a") as file:
        file.write("\n" + json.dumps({"iteration": 9, "total_loss": 8}) + '\n{"iteration": 19, "tot')
    assert values_of(logged_lines(run), "total_loss") == {10: 8}
    assert panels_of(curves_picture([run], []))["total loss"] == {"a": [[10, 8]]}


def test_a_loss_that_is_no_number_does_not_hide_the_others(tmp_path):
    run = make_run(tmp_path / "a", [3, float("nan"), 2])
    [points] = panels_of(curves_picture([run], ["total_loss"]))["total loss"].values()
    np.testing.assert_equal(points, [[10, 3], [20, np.nan], [30, 2]])


@pytest.mark.parametrize(
    "names, scalars, message",
    [
        (["absent"], [], "absent holds no metrics.json and no CMC in results.json or results_eval.json"),
        (["a", "a"], [], "a run is given twice"),
        (["a"], ["recall"], "--scalars recall: no run has logged that; there are iteration, total_loss"),
        (["empty"], [], "no run has logged total_loss, Rank-1, mAP: name others by --scalars"),
        (["damaged"], [], "damaged/results.json is damaged: remove it, or evaluate .*damaged again"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, names, scalars, message):
    make_run(tmp_path / "a", [3])
    make_run(tmp_path / "damaged", [3])
    make_run(tmp_path / "empty", [])
    (tmp_path / "empty" / "metrics.json").write_text('{"iteration": 1, "lr": 0.1}')
    (tmp_path / "damaged" / "results.json").write_text('{"Drawn": ')
    with pytest.raises(InputError, match=message):
        curves_picture([str(tmp_path / name) for name in names], scalars)


def test_one_evaluation_has_axes_of_percentages_and_its_value(tmp_path):
    figure = curves_picture([make_run(tmp_path / "a", [-3], ranks=[40])], ["mAP", "total_loss"])
    percent, loss = figure.axes
    assert percent.get_ylim() == pytest.approx((-5, 105)) and percent.get_xlim() == (0, 12.5)
    assert loss.get_ylim()[0] < -3 and loss.get_ylim()[1] > 0
    assert [text.get_text() for panel in figure.axes for text in panel.texts] == ["20.0", "-3"]


def test_the_picture_lies_in_the_folder_of_the_run_or_in_that_of_all_runs():
    assert picture_of(["/logs/a"]) == "/logs/a/curves.png"
    assert picture_of(["/logs/a", "/logs/b/c"]) == "/logs/curves.png"
