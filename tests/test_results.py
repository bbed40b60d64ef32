from collections import OrderedDict

import pytest

import igoas_plugin
from igoas_plugin.errors import InputError
from igoas_plugin.results import save_results, summarize


def cfg_of(folder, *tests):
    cfg = igoas_plugin.get_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TESTS = str(folder), tests
    folder.mkdir()
    return cfg


def test_one_table_holds_several_runs_and_data_sets(tmp_path):
    save_results(OrderedDict({"Rank-1": 12.34, "mAP": 5.0}), cfg_of(tmp_path / "a", "Market1501"))
    several = {"X": OrderedDict({"Rank-1": 50.0, "mAP": 40.0}), "Y": OrderedDict({"Rank-1": 60.0, "mAP": 41.0})}
    save_results(several, cfg_of(tmp_path / "b", "X", "Y"))
    (tmp_path / "b" / "log.txt").write_text("")
    table = summarize([str(tmp_path / "a"), str(tmp_path / "b")])
    rows = [
        [cell.strip() for cell in line.split("|")[2:5]]
        for line in table.splitlines()
        if line.startswith(f"| {tmp_path}")
    ]
    assert rows == [["Market1501", "12.3", ""], ["X", "50.0", ""], ["Y", "60.0", ""]]
    assert str(tmp_path / "b" / "log.txt") in table and "model_final" not in table


def test_a_run_that_did_not_end_is_named(tmp_path):
    with pytest.raises(InputError, match="results.json does not exist: .* is no run"):
        summarize([str(tmp_path)])


def test_a_damaged_file_of_results_is_named(tmp_path):
    (tmp_path / "results.json").write_text('{"Toy": {"Rank-1": 1')
    with pytest.raises(InputError, match="results.json is damaged: evaluate .* again"):
        summarize([str(tmp_path)])


def test_one_data_set_that_is_named_twice_is_one_row(tmp_path):
    path = save_results(OrderedDict({"Rank-1": 12.34, "mAP": 5.0}), cfg_of(tmp_path / "a", "Market1501", "Market1501"))
    assert summarize([path]).count("Market1501") == 1
