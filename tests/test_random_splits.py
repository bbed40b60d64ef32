"""tools/random_splits.py: ten trainings, or one model on ten test sets, and their mean."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_data import make_noise, make_tiny_occluded_reid

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "random_splits.py"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def run(tool_command, *words, protocol):
    command = tool_command(*words)[1:]
    return subprocess.run([sys.executable, TOOL, protocol, *command], capture_output=True, text=True, timeout=600)


def test_one_model_is_evaluated_on_the_ten_galleries_in_one_run(root, tool_command, tmp_path):
    for part in ("partial_body_images", "whole_body_images"):
        make_noise(root / "Partial_REID" / part, [f"{p:03d}_{i:03d}.jpg" for p in range(1, 13) for i in range(1, 4)])
    command = tool_command()[1:]
    command.insert(2, "--eval-only")
    done = subprocess.run([sys.executable, TOOL, "PartialREIDSingleShot", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results) == [f"PartialREIDSingleShot{seed}" for seed in range(10)]
    expected = np.mean([each["mAP"] for each in results.values()])
    [line] = re.findall(r"^\| .*: mean ± standard deviation of 10 .*$", done.stdout, re.M)
    assert f"{expected:.1f} ± " in line


@pytest.mark.slow
def test_ten_trainings_each_in_its_folder_and_resume_leaves_finished_ones_alone(root, tool_command, tmp_path):
    make_tiny_occluded_reid(root)
    settings = ("SOLVER.IMS_PER_BATCH", "64")
    done = run(tool_command, *settings, protocol="OccludedREIDHalfSplit")
    assert done.returncode == 0, done.stderr[-2000:]
    folders = [tmp_path / "run" / f"split{seed}" for seed in range(10)]
    for seed, folder in enumerate(folders):
        assert list(json.loads((folder / "results.json").read_text())) == [f"OccludedREIDHalfSplit{seed}"]
    assert re.search(r"mean ± standard deviation of 10 +\| OccludedREIDHalfSplit ", done.stdout)
    (folders[3] / "results.json").unlink()
    kept = {folder: os.stat(folder / "results.json").st_mtime_ns for folder in folders if folder != folders[3]}
    again = subprocess.run(
        [sys.executable, TOOL, "OccludedREIDHalfSplit", "--resume", *tool_command(*settings)[1:]],
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0 and (folders[3] / "results.json").exists()
    assert kept == {folder: os.stat(folder / "results.json").st_mtime_ns for folder in kept}


@pytest.mark.parametrize(
    "words, message",
    [
        (["OccludedREID"], "PROTOCOL must be OccludedREIDHalfSplit or PartialREIDSingleShot, got OccludedREID"),
        (["OccludedREIDHalfSplit", "--config-file", "absent.yml"], "absent.yml does not exist"),
    ],
)
def test_a_mistake_is_one_line(words, message):
    done = subprocess.run([sys.executable, TOOL, *words], capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1]


def test_a_training_that_fails_ends_with_its_exit_code(root, tool_command):
    done = run(tool_command, protocol="OccludedREIDHalfSplit")
    assert done.returncode == 2 and "Occluded-REID: there is no folder" in done.stderr
