import json
from collections import OrderedDict
from pathlib import Path

import pytest

import igoas_plugin
from igoas_plugin.core.errors import InputError
from igoas_plugin.evaluation.results import read_results, save_results, shown_name, summarize
from igoas_plugin.fastreid_fixes.dense_ranking import RECENT_CMC


def cfg_of(folder, *tests):
    cfg = igoas_plugin.get_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TESTS = str(folder), tests
    folder.mkdir(parents=True, exist_ok=True)
    return cfg


def test_one_table_holds_several_runs_and_data_sets(tmp_path):
    save_results(OrderedDict({"Rank-1": 12.34, "mAP": 5.0}), cfg_of(tmp_path / "a", "Market1501"))
    several = {"X": OrderedDict({"Rank-1": 50.0, "mAP": 40.0}), "Y": OrderedDict({"Rank-1": 60.0, "mAP": 41.0})}
    save_results(several, cfg_of(tmp_path / "b [1]", "X", "Y"))
    (tmp_path / "b [1]" / "log.txt").write_text("")
    table = summarize([str(tmp_path / "a"), str(tmp_path / "b [1]")])
    rows = [
        [cell.strip() for cell in line.split("|")[2:5]]
        for line in table.splitlines()
        if line.startswith(f"| {tmp_path}")
    ]
    assert rows == [["Market1501", "12.3", "5.0"], ["X", "50.0", "40.0"], ["Y", "60.0", "41.0"]]
    assert "log.txt" not in table  # of which run?


def test_the_table_of_one_run_names_its_files_and_the_command_that_shows_its_curves(tmp_path):
    folder = tmp_path / "b [1]"
    save_results(OrderedDict({"mAP": 5.0}), cfg_of(folder, "X"))
    for name in ("log.txt", "events.out.tfevents.1", "events.out.tfevents.2"):
        (folder / name).write_text("")
    rows = [line.split(maxsplit=1) for line in summarize([str(folder)]).splitlines()[-2:]]
    assert rows == [["log", str(folder / "log.txt")], ["tensorboard", f"tensorboard --logdir '{folder}'"]]


def test_results_record_whether_the_camera_rule_was_applied(tmp_path):
    for rule in (True, False):
        cfg = cfg_of(tmp_path / str(rule), "X", "Y")
        cfg.TEST.CAMERA_RULE = rule
        path = save_results({"X": {"mAP": 40.0}, "Y": {"mAP": 41.0}}, cfg)
        assert [each["TEST.CAMERA_RULE"] for each in read_results(path).values()] == [rule, rule]


def test_a_table_marks_figures_without_the_camera_rule_and_does_not_average_them_with_others(tmp_path):
    runs = [
        results_of(
            tmp_path / f"split{seed}", f"OccludedREIDHalfSplit{seed}", camera_rule=rule, **{"Rank-1": 80.0 + seed}
        )
        for seed, rule in enumerate((True, True, False, False))
    ]
    shown = [line.split("|")[2].strip() for line in summarize(runs).splitlines() if line.startswith(f"| {tmp_path}")]
    with_rule, without = "OccludedREIDHalfSplit", "OccludedREIDHalfSplit{} (without the camera rule)".format
    assert shown == [f"{with_rule}0", f"{with_rule}1", without(2), without(3), with_rule, without("")]
    assert [line.count("80.5 ± 0.7") for line in summarize(runs).splitlines() if "mean" in line] == [1, 0]


STEPS = {
    (): None,
    ("NFC",): "NFC",
    ("NFC", "AQE"): "transductive: NFC, query expansion",
    ("NFC", "both", "RERANK"): "transductive: NFC of query and gallery, re-ranking",
    ("both", "NFC"): "transductive: NFC of query and gallery",
    ("RERANK",): "transductive: re-ranking",
    ("both",): None,  # NFC is off
}


def test_results_record_the_steps_before_the_ranking_and_a_table_marks_them(tmp_path):
    for number, (steps, mark) in enumerate(STEPS.items()):
        cfg = cfg_of(tmp_path / str(number), "X")
        cfg.TEST.NFC.SIDES = "both" if "both" in steps else "gallery"
        for step in {*steps} - {"both"}:
            cfg.TEST[step].ENABLED = True
        path = save_results({"mAP": 40.0}, cfg)
        shown = [line.split("|")[2].strip() for line in summarize([path]).splitlines() if "40.0" in line]
        assert shown == [f"X ({mark})" if mark else "X"], steps
        assert ("steps" in read_results(path)["X"]) == bool(mark), steps


def test_marks_of_the_camera_rule_and_of_steps_stand_together():
    assert shown_name("X", {"TEST.CAMERA_RULE": False, "steps": ["NFC"]}) == "X (without the camera rule; NFC)"


def test_the_file_names_the_module_of_each_registered_data_set(tmp_path):
    RECENT_CMC.clear()  # of the evaluations of other tests
    path = save_results(OrderedDict({"Rank-1": 12.34}), cfg_of(tmp_path, "PartialREID"))
    assert json.loads(Path(path).read_text(encoding="utf-8"))["PartialREID"] == {
        "Rank-1": 12.34,
        "TEST.CAMERA_RULE": True,
        "module": "igoas_plugin.datasets.partial_reid",
    }
    summarize([path])


def test_a_run_that_did_not_end_is_named(tmp_path):
    with pytest.raises(InputError, match="results.json does not exist: .* holds no finished run"):
        summarize([str(tmp_path)])


@pytest.mark.parametrize(
    "content",
    [
        '{"Toy": {"Rank-1": 1',
        '{"a": {"steps": [1]}}',
        *("[]", "null", '{"a": 1}', '{"a": {"mAP": "x"}}', '{"a": {"CMC": 1}}', '{"a": {"CMC": ["x"]}}'),
    ],
    ids=lambda content: content[:20],
)
def test_a_damaged_file_of_results_is_named(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match="results.json is damaged: remove it, or evaluate .* again"):
        summarize([str(tmp_path)])


def test_one_data_set_that_is_named_twice_is_one_row(tmp_path):
    path = save_results(OrderedDict({"Rank-1": 12.34, "mAP": 5.0}), cfg_of(tmp_path / "a", "Market1501", "Market1501"))
    assert summarize([path]).count("Market1501") == 1


def results_of(folder, name, camera_rule=True, **metrics):
    cfg = cfg_of(folder, name)
    cfg.TEST.CAMERA_RULE = camera_rule
    save_results(OrderedDict(metrics), cfg)
    return str(folder)


def test_draws_of_one_protocol_get_their_mean_and_standard_deviation(tmp_path):
    runs = [
        results_of(tmp_path / "A" / f"split{seed}", f"OccludedREIDHalfSplit{seed}", **{"Rank-1": rank_1, "mAP": 50.0})
        for seed, rank_1 in enumerate((80.0, 82.0, 87.0))
    ]
    runs.append(results_of(tmp_path / "other", "Market1501", **{"Rank-1": 1.0, "mAP": 1.0}))
    [line] = [line for line in summarize(runs).splitlines() if "mean" in line]
    # 80, 82, 87: mean 83, deviations -3, -1, 4, their squares 9 + 1 + 16 = 26, over n - 1 = 2: 13, root 3.6
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        f"{tmp_path / 'A'}: mean ± standard deviation of 3", "OccludedREIDHalfSplit",
        "83.0 ± 3.6", "50.0 ± 0.0", "", "", "",
    ]  # fmt: skip


def test_one_draw_alone_has_no_mean_and_neither_have_seeds_of_another_set(tmp_path):
    runs = [
        results_of(tmp_path / "a", "OccludedREIDHalfSplit1", **{"Rank-1": 80.0}),
        results_of(tmp_path / "b [1]", "OccludedREIDHalfSplit", **{"Rank-1": 80.0}),
        results_of(tmp_path / "c", "Market1501", **{"Rank-1": 80.0}),
        results_of(tmp_path / "d", "Market1501", **{"Rank-1": 81.0}),
    ]
    assert "mean" not in summarize(runs)


def test_draws_of_different_runs_are_not_mixed(tmp_path):
    runs = [
        results_of(tmp_path / run / f"split{seed}", f"OccludedREIDHalfSplit{seed}", **{"Rank-1": base + seed})
        for run, base in (("A", 10.0), ("B", 90.0))
        for seed in range(3)
    ]
    lines = [line for line in summarize(runs).splitlines() if "mean" in line]
    assert [("11.0 ± 1.0" in line, "91.0 ± 1.0" in line) for line in lines] == [(True, False), (False, True)]
    assert "mean" not in summarize([runs[0], runs[4]])
