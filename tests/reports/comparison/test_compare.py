"""tools/compare.py: table, failed runs, finished runs, refusals."""

import os
import re
import sys
from pathlib import Path

import pytest
from in_process import TINY_NETWORK
from tiny_data import make_tiny_duke

from igoas_plugin.reports.comparison import training

ROOT = Path(__file__).parents[3]
CONFIGS = ("configs/Toy/igoas_R18.yml", "configs/Toy/bagtricks_R18.yml")
SMALL = ["SOLVER.MAX_EPOCH", "1", "INPUT.SIZE_TRAIN", "[32, 16]", "INPUT.SIZE_TEST", "[32, 16]",
         "SOLVER.IMS_PER_BATCH", "8", "DATALOADER.NUM_WORKERS", "0"]  # fmt: skip
DUKE = ["DATASETS.NAMES", "('OccludedDuke',)", "DATASETS.TESTS", "('OccludedDuke',)", "TEST.IMS_PER_BATCH", "8"]
# A training without a model, in the place of tools/train_net.py
TRAINING = """
import json, os, sys
config, folder = sys.argv[sys.argv.index("--config-file") + 1], sys.argv[-1]
if "impossible" in config:
    sys.exit("igoas_plugin 0: no backbone build_vit_backbone")
print("epoch 1/1  iter 2/2")
metrics = dict.fromkeys(("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"), 62.5)
line = {"iteration": 1, "time": 0.5, "total_loss": 3.0, "Rank-1": 62.5}
results = {"OccludedDuke": {**metrics, "CMC": [62.5] * 50}}
contents = {"metrics.json": line, "model_final.pth": 0, "results.json": results}
for name, content in contents.items():
    with open(os.path.join(folder, name), "w") as file:
        json.dump(content, file)
"""


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """Writes the two toy configs with a network of three layers, and before them one whose model cannot be built."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "datasets"))
    make_tiny_duke(tmp_path / "datasets")
    (tmp_path / "Toy").mkdir()
    written = []
    tiny = dict(zip(TINY_NETWORK[::2], TINY_NETWORK[1::2], strict=True))
    for name, base, network in (
        ("impossible", CONFIGS[0], {"MODEL.BACKBONE.NAME": "build_vit_backbone"}),
        *((Path(config).stem, config, tiny) for config in CONFIGS),
    ):
        keys = ", ".join(f"{key.split('.')[-1]}: {value}" for key, value in network.items())
        path = tmp_path / "Toy" / f"{name}.yml"
        path.write_text(f"_BASE_: {ROOT / base}\nMODEL: {{BACKBONE: {{{keys}}}}}\n")
        written.append(str(path))
    return written


@pytest.fixture
def compare(call_tool, tmp_path):
    return lambda *words: call_tool("compare", *words, "--output", tmp_path / "out", *SMALL)


def test_two_configs_are_compared_a_third_that_fails_stops_nothing_and_the_next_call_trains_nothing(
    configs, compare, tmp_path, monkeypatch
):
    (tmp_path / "training.py").write_text(TRAINING)
    monkeypatch.setattr(training, "TRAIN_NET", (sys.executable, str(tmp_path / "training.py")))
    out = tmp_path / "out"
    done = compare(*configs, "--seeds", "1", *DUKE)
    assert done.returncode == 1, done.stderr
    assert "impossible seed 0 failed, exit code 1: igoas_plugin" in done.stderr and "build_vit_backbone" in done.stderr
    shown = done.stdout.splitlines()
    assert "igoas_R18 seed 0: iter 2/2  loss 3" in shown
    assert "igoas_R18 seed 0: OccludedDuke Rank-1 62.5, mAP 62.5, 1 min" in shown
    assert "seed0/console.txt" in done.stderr  # of the failed run
    assert {"results.md", "results.csv", "bars.png", "cmc.png", "training.png"} <= set(os.listdir(out))
    table = (out / "results.md").read_text()
    assert "one seed: no deviation" in table and "standard deviation" not in table
    assert "Published rows are" in table and "published:" in table
    assert all(f"| {name}" in table for name in ("igoas_R18", "bagtricks_R18")) and "## Failed" in table
    weights = out / "Toy" / "igoas_R18" / "seed0" / "model_final.pth"
    before = weights.stat().st_mtime_ns
    again = compare(*configs[1:], "--seeds", "1", *DUKE)
    assert again.returncode == 0 and weights.stat().st_mtime_ns == before
    assert "| igoas_R18" in again.stdout and "## Failed" not in again.stdout
    dry = compare(*configs[1:], "--seeds", "2", "--dry-run", *DUKE)
    states = [line.split(": ", 1)[1].split(",")[0] for line in dry.stdout.splitlines()[:4]]
    assert states == ["done", "done", "new", "new"]
    assert re.fullmatch(
        r"To do: about \d+ min, without the loading of images and the optimiser", dry.stdout.splitlines()[-1]
    )
    assert not (out / "Toy" / "igoas_R18" / "seed1").exists()


@pytest.mark.slow
def test_a_real_training_is_compared_on_the_drawn_data(compare, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "datasets"))
    done = compare(ROOT / CONFIGS[0], "--seeds", "1")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "Toy" / "igoas_R18" / "seed0"
    assert "| igoas_R18" in done.stdout and {"results.json", "model_final.pth"} <= set(os.listdir(folder))


MISTAKES = [
    (["no.yml"], "config file no.yml does not exist"),
    (["igoas_R18.yml", *DUKE[2:], "DATASETS.NAMES", "('OccludedREID',)"], "OccludedREID: there is no folder"),
    (["igoas_R18.yml", "DATASETS.TESTS", "('OccludedDukes',)"], "DATASETS.TESTS must be"),
    (["igoas_R18.yml", *DUKE[:4], "TEST.IMS_PER_BATCH", "0"], "TEST.IMS_PER_BATCH is 0"),
    (["igoas_R18.yml", "configs/Toy"], "KEY VALUE pairs with a space between, got configs/Toy"),
]


def test_a_mistake_is_one_line_before_anything_is_written(configs, call_tool, monkeypatch, tmp_path):
    monkeypatch.chdir(Path(configs[0]).parent)
    faults = []
    for words, message in MISTAKES:
        done = call_tool("compare", *words, "--output", tmp_path / "out")
        lines = done.stderr.splitlines()
        if done.returncode != 2 or len(lines) != 1 or message not in lines[0] or (tmp_path / "out").exists():
            faults.append((words, done.returncode, lines))
    assert faults == []


def test_without_a_config_the_usage_is_printed(compare):
    done = compare("SOLVER.MAX_EPOCH", "1")
    assert done.returncode == 2 and "give at least one config file" in done.stderr


def test_a_folder_that_is_a_file_is_one_line(configs, call_tool, tmp_path):
    (tmp_path / "file").write_text("")
    done = call_tool("compare", configs[1], *DUKE, "--output", tmp_path / "file")
    assert done.returncode == 2 and "cannot be written" in done.stderr and "Traceback" not in done.stderr
