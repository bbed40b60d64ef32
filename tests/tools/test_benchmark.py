"""Each command of tools/benchmark.py at a size of a second: whether it runs and counts right, not how fast it is."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.memory import largest_costs, measure_memory
from benchmarks.train import steps

from igoas_plugin.config import load_cfg
from igoas_plugin.core.timing import Row, as_table, measure, peak_of

TOOL = Path(__file__).parents[2] / "tools" / "benchmark.py"
TOY = str(TOOL.parents[1] / "configs/Toy/igoas_R18.yml")
TINY = ("MODEL.BACKBONE.NAME", "build_tiny_backbone", "MODEL.BACKBONE.DEPTH", "tiny")  # of tiny_data.py


@pytest.fixture
def benchmark(tmp_path, capsys, monkeypatch):
    """Runs the tool; returns the rows of its JSON file by way, and what it printed."""
    spec = importlib.util.spec_from_file_location("benchmark_tool", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*words):
        words = [words[0], "--repeats", "2", "--output", str(tmp_path / "figures"), *words[1:]]
        monkeypatch.setattr(sys, "argv", [str(TOOL), *words])
        tool.main(words)
        [path] = (tmp_path / "figures").glob("*.json")
        written = json.loads(path.read_text())
        assert written["command"].startswith(f"python tools/benchmark.py {words[0]}")
        assert {"torch", "faiss", "cpu", "threads", "gpu"} <= written["machine"].keys()
        for row in written["rows"]:
            assert len(row["seconds"]) == 2 and min(row["seconds"]) > 0
        return {row["way"]: row for row in written["rows"]}, capsys.readouterr().out

    return run


def test_every_way_of_ranking_finds_the_same(benchmark):
    rows, printed = benchmark("rank", "--queries", "30", "--gallery", "2000", "--width", "64")
    assert list(rows) == ["fast-reid", "blocked", "blocked, gallery in a file"]
    figures = [(row["facts"]["rank_1"], row["facts"]["map"]) for row in rows.values()]
    assert 0 < figures[0][1] < 100
    assert figures[1] == pytest.approx(figures[0], abs=1e-2) and figures[2] == figures[1]
    assert printed.count("rank 30 x 2000 x 64") == 3 and "times faster" in printed


def test_several_galleries_are_plotted(benchmark, tmp_path):
    _, printed = benchmark("rank", "--queries", "10", "--gallery", "500", "900", "--width", "8")
    assert (tmp_path / "figures" / "rank_ranking.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "figures" / "rank_ranking.png") in printed and "rank 10 x 900 x 8" in printed


@pytest.mark.parametrize("what", ["reranking", "expansion"])
def test_the_dense_forms_are_beside_the_blocks(benchmark, what):
    rows, _ = benchmark("rank", what, "--queries", "10", "--gallery", "120", "--width", "8")
    assert list(rows) == ["fast-reid", "blocked"]


def test_each_kind_of_index_tells_its_recall(benchmark):
    rows, _ = benchmark("rank", "search", "--queries", "20", "--gallery", "700", "--width", "16")
    assert list(rows) == ["flat", "ivf", "hnsw", "pq"]
    recalls = [row["facts"]["recall"] for row in rows.values()]
    assert recalls[0] == 1 and all(0 < each <= 1 for each in recalls)


def test_fast_inference_tells_how_near_its_descriptors_are(benchmark):
    size = ("INPUT.SIZE_TEST", "[32,16]")
    rows, printed = benchmark("infer", "--batch", "2", "--profile", "--config-file", TOY, *TINY, *size)
    ways = ["plain", "kept memory", "kept memory, fused", "kept memory, fused, channels last", "fast"]
    assert [way.split(":")[0] for way in rows] == ways
    assert all(row["facts"]["cosine"] > 0.999 for row in rows.values())
    assert "convolution" in rows["plain"]["facts"]["costs"] and "largest costs" in printed
    assert "IGOAS tiny 32x16, batch 2" in printed and "images/s" in printed


def test_training_tells_its_share_of_the_peak(benchmark, monkeypatch):
    monkeypatch.setattr("benchmarks.train.FACTORS", 64)
    own = ("INPUT.SIZE_TRAIN", "[32,16]", "SOLVER.AMP.DTYPE", "bfloat16")
    rows, printed = benchmark("train", "--batch", "2", "--config-file", TOY, *TINY, *own)
    ways = ["plain", "fused optimiser", "fused optimiser, kept memory", "bfloat16, channels last"]
    assert list(rows) == ways and "IGOAS tiny 32x16, batch 2" in printed and "of the peak" in printed
    assert all(row["facts"]["peak_share"] > 0 for row in rows.values())


def test_nothing_that_keeps_its_memory_is_run_before_what_does_not(monkeypatch):
    done = []
    monkeypatch.setattr("benchmarks.memory.keep_freed_memory", lambda: done.append("keep"))
    one, two, fast = (lambda name=name: done.append(name) for name in ("one", "two", "fast"))
    rows = measure_memory({"one": one, "two": two}, {"fast": fast}, "case", 1, torch.device("cpu"), work=3)
    assert done == 3 * ["one", "two"] + ["keep"] + 3 * ["fast"]
    assert [(row.way, len(row.seconds), row.work) for row in rows] == [("one", 1, 3), ("two", 1, 3), ("fast", 1, 3)]


def test_a_step_that_is_timed_as_plain_has_not_told_the_process_to_keep_its_memory(monkeypatch):
    told = []
    monkeypatch.setattr("igoas_plugin.core.allocator.keep_freed_memory", lambda: told.append("keep"))
    cfg = load_cfg(TOY, [*TINY, "INPUT.SIZE_TRAIN", "[32,16]"])
    steps(cfg, 2, torch.device("cpu"), fused=False)()
    assert told == []


def test_the_largest_costs_come_first():
    one = torch.rand(300, 300)
    costs = largest_costs(lambda: [(one @ one).exp_() for _ in range(3)], torch.device("cpu"), count=2)
    assert set(costs) == {"aten::mm", "aten::exp_"}
    first, second = costs.values()
    assert 1 > first >= second > 0
    assert largest_costs(lambda: None, torch.device("cpu")) == {}


def test_batches_are_loaded_by_each_number_of_workers(benchmark):
    few = ("SOLVER.IMS_PER_BATCH", "8", "INPUT.SIZE_TRAIN", "[32,16]")
    rows, printed = benchmark("loader", "--workers", "0", "1", "--batches", "2", *few)
    assert list(rows) == ["0 workers", "1 workers"] and all(row["work"] == 16 for row in rows.values())
    assert "128x64 jpg to 32x16, batch 8" in printed and "256x128 jpg to 32x16, batch 8" in printed


def test_ways_are_timed_in_turn_after_a_warm_up():
    done = []
    ways = {"plain": lambda: done.append("plain"), "fast": lambda: done.append("fast")}
    rows = measure(ways, "case", repeats=2, work=8, unit="images")
    assert done == ["plain", "fast", "plain", "fast", "plain", "fast"]
    assert [(row.way, len(row.seconds), row.work, row.unit) for row in rows] == [
        ("plain", 2, 8, "images"),
        ("fast", 2, 8, "images"),
    ]


def test_the_peak_of_the_memory_is_seen_where_the_system_tells_it():
    import numpy as np

    peak = peak_of(lambda: np.ones(50_000_000, np.uint8).sum())
    assert peak is None or 45 < peak < 100


def test_the_table_compares_medians_with_the_first_way_of_the_same_case():
    rows = [
        Row("a", "plain", [4.0, 1.0, 2.0], work=10, unit="images"),
        Row("a", "fast", [0.5], 3.4, work=10, unit="images"),
        Row("b", "plain", [1.0], facts={"recall": 0.5}),
    ]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in as_table(rows).splitlines()]
    assert lines[0] == ["case", "way", "seconds", "speed", "times faster", "peak MB", "recall"]
    assert lines[2:] == [
        ["a", "plain", "2 ± 75 %", "5 images/s", "1", "-", ""],
        ["a", "fast", "0.5 ± 0 %", "20 images/s", "4.00", "3", ""],
        ["b", "plain", "1 ± 0 %", "", "1", "-", "0.5"],
    ]
