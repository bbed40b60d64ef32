import json
import shutil

import pytest
from saved_run import save_run

from igoas_plugin.core.errors import InputError
from igoas_plugin.reports.html.run_folder import open_run


@pytest.fixture
def run(igoas_cfg, tmp_path):
    return save_run(igoas_cfg, tmp_path / "trained")


def test_the_last_epoch_wins_over_the_best_one_which_was_chosen_on_the_test_set(run):
    shutil.copy(run / "model_final.pth", run / "model_best.pth")
    assert open_run(str(run), []).cfg.MODEL.WEIGHTS == str(run / "model_final.pth")
    (run / "model_final.pth").unlink()
    opened = open_run(str(run), [])
    assert opened.cfg.MODEL.WEIGHTS == str(run / "model_best.pth")
    assert "chosen on the test set itself: no figure to compare" in opened.weights


def test_weights_of_the_command_line_win_and_those_of_the_config_come_last(run):
    given = open_run(str(run), ["MODEL.WEIGHTS", "other.pth"])
    assert (given.cfg.MODEL.WEIGHTS, given.weights) == ("other.pth", "given on the command line")
    (run / "model_final.pth").unlink()
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("WEIGHTS: ''", "WEIGHTS: evaluated.pth"))
    opened = open_run(str(run), [])
    assert opened.cfg.MODEL.WEIGHTS == "evaluated.pth" and "of config.yaml" in opened.weights


def test_lines_of_metrics_json_are_read_where_there_is_one(run):
    assert open_run(str(run), []).lines == []
    (run / "metrics.json").write_text('{"iteration": 0, "total_loss": 2.0}\n{"iterat')
    assert open_run(str(run), []).lines == [{"iteration": 0, "total_loss": 2.0}]


def test_results_and_pairs_of_the_command_line_are_read(run):
    opened = open_run(str(run), ["TEST.FLIP.ENABLED", "True"])
    assert opened.cfg.TEST.FLIP.ENABLED and opened.curve == []
    assert opened.recorded["results.json"]["TinyReID"]["mAP"] == 12.0
    (run / "results_eval.json").write_text(json.dumps({"TinyReID": {"mAP": 3.0}}))
    assert list(open_run(str(run), []).recorded) == ["results.json", "results_eval.json"]


DAMAGES = [
    ("config.yaml", None, [], r"config.yaml does not exist: give the folder that tools/train_net.py wrote"),
    ("config.yaml", "MODEL: [", [], r"config.yaml cannot be read"),
    ("model_final.pth", None, [], r"holds neither model_final.pth nor model_best.pth: finish the training"),
    ("results.json", "{", [], r"results.json is damaged: remove it"),
    ("results.json", "[1]", [], r"results.json is damaged: remove it"),
    ("occlusion_curve.csv", "model,kind\na,b\n", [], r"occlusion_curve.csv is damaged: remove it"),
    ("results.json", "{}", ["DATASETS.TESTS", "()"], r"names no data set"),
    ("results.json", "{}", ["TEST.FLIPP", "True"], r"unknown key TEST.FLIPP; the nearest known key is TEST.FLIP"),
]


def test_what_is_missing_or_damaged_is_one_line(run, tmp_path):
    for number, (file, content, opts, message) in enumerate(DAMAGES):
        folder = shutil.copytree(run, tmp_path / str(number))
        (folder / file).unlink(missing_ok=True)
        if content is not None:
            (folder / file).write_text(content)
        with pytest.raises(InputError, match=message) as caught:
            open_run(str(folder), opts)
        assert "\n" not in str(caught.value)
