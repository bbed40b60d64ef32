"""tools/compare.py, end to end on the drawn data set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = str(Path(__file__).parents[2] / "tools" / "compare.py")
ROOT = Path(__file__).parents[2]
SMALL = ["SOLVER.MAX_EPOCH", "1", "INPUT.SIZE_TRAIN", "[32, 16]", "INPUT.SIZE_TEST", "[32, 16]",
         "SOLVER.IMS_PER_BATCH", "32", "DATALOADER.NUM_WORKERS", "0"]  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A folder for the drawn data, and one config whose model cannot be built."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "impossible.yml").write_text(
        f"_BASE_: {ROOT}/configs/Toy/igoas_R18.yml\nMODEL: {{BACKBONE: {{NAME: build_vit_backbone}}}}\n"
    )
    return folder


def compare(toy, *words):
    environment = {**os.environ, "FASTREID_DATASETS": str(toy / "datasets")}
    command = [sys.executable, TOOL, *words, "--output", str(toy / "out"), *SMALL]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


CONFIGS = ("configs/Toy/igoas_R18.yml", "configs/Toy/bagtricks_R18.yml")


def test_two_configs_are_compared_a_third_that_fails_stops_nothing_and_the_next_call_trains_nothing(toy):
    done = compare(toy, str(toy / "impossible.yml"), *CONFIGS, "--seeds", "1")
    assert done.returncode == 1, done.stderr
    assert "impossible seed 0 failed, exit code 2: igoas_plugin" in done.stderr and "build_vit_backbone" in done.stderr
    assert {"results.md", "results.csv", "bars.png", "cmc.png", "training.png"} <= set(os.listdir(toy / "out"))
    table = (toy / "out" / "results.md").read_text()
    assert all(f"| {name}" in table for name in ("igoas_R18", "bagtricks_R18")) and "## Failed" in table
    weights = toy / "out" / "Toy" / "igoas_R18" / "seed0" / "model_final.pth"
    before = weights.stat().st_mtime_ns
    again = compare(toy, *CONFIGS, "--seeds", "1")
    assert again.returncode == 0 and weights.stat().st_mtime_ns == before
    assert "| igoas_R18" in again.stdout and "## Failed" not in again.stdout
    dry = compare(toy, *CONFIGS, "--seeds", "2", "--dry-run")
    states = [line.split(": ", 1)[1].split(",")[0] for line in dry.stdout.splitlines()[:4]]
    assert states == ["done", "done", "new", "new"] and "To do: about" in dry.stdout
    assert not (toy / "out" / "Toy" / "igoas_R18" / "seed1").exists()


@pytest.mark.parametrize("words, message", [
    (["configs/no.yml"], "config file configs/no.yml does not exist"),
    (["configs/Toy/igoas_R18.yml", "DATASETS.NAMES", "('OccludedDuke',)"], "OccludedDuke: there is no folder"),
    (["configs/Toy/igoas_R18.yml", "DATASETS.TESTS", "('OccludedDukes',)"], "DATASETS.TESTS must be"),
    (["configs/Toy/igoas_R18.yml", "TEST.IMS_PER_BATCH", "0"], "TEST.IMS_PER_BATCH is 0"),
    (["configs/Toy/igoas_R18.yml", "configs/Toy"], "KEY VALUE pairs with a space between, got configs/Toy:"),
])  # fmt: skip
def test_a_mistake_is_one_line_before_anything_is_written(words, message, toy, monkeypatch, capsys, tmp_path):
    import runpy

    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [TOOL, *words, "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(TOOL, run_name="__main__")
    [line] = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and message in line and not (tmp_path / "out").exists()


def test_without_a_config_the_usage_is_told(toy):
    done = compare(toy, "SOLVER.MAX_EPOCH", "1")
    assert done.returncode == 2 and "give at least one config file" in done.stderr


def test_a_folder_that_is_a_file_is_one_line(toy, tmp_path):
    (tmp_path / "file").write_text("")
    done = subprocess.run([sys.executable, TOOL, CONFIGS[0], "--output", str(tmp_path / "file")],
                          capture_output=True, text=True, cwd=ROOT)  # fmt: skip
    assert done.returncode == 2 and "cannot be written" in done.stderr and "Traceback" not in done.stderr
