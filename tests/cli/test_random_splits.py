"""tools/random_splits.py: ten trainings, or one model on ten test sets, and their mean."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from in_process import TINY_NETWORK, run_in_process
from tiny_data import make_noise, make_tiny_occluded_reid

ROOT = Path(__file__).parents[2]


class Training:
    """Stands in for subprocess.Popen: runs the tool that is started in this process, where the tiny network is."""

    def __init__(self, command):
        assert command[1:3] == ["-m", "igoas_plugin.cli.train_net"]
        self.returncode, done = None, run_in_process([str(ROOT / "tools" / "train_net.py"), *command[3:]])
        print(done.stdout)
        print(done.stderr)
        self.returncode = done.returncode

    def wait(self):
        return self.returncode


@pytest.fixture
def splits(tool_command, monkeypatch):
    """Runs the tool with the flags and pairs given; `trains` takes the place of subprocess.Popen."""

    def run(protocol, *pairs, flags=(), trains=Training):
        monkeypatch.setattr(subprocess, "Popen", trains)
        tool, *words = tool_command(*pairs, *TINY_NETWORK, flags=flags, tool="tools/random_splits.py")
        return run_in_process([tool, protocol, *words])

    return run


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def test_one_model_is_evaluated_on_the_ten_galleries_in_one_run(root, splits, tmp_path):
    for part in ("partial_body_images", "whole_body_images"):
        make_noise(root / "Partial_REID" / part, [f"{p:03d}_{i:03d}.jpg" for p in range(1, 13) for i in range(1, 4)])
    done = splits("PartialREIDSingleShot", flags=["--eval-only"])
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results) == [f"PartialREIDSingleShot{seed}" for seed in range(10)]
    expected = np.mean([each["mAP"] for each in results.values()])
    [line] = re.findall(r"^\| .*: mean ± standard deviation of 10 .*$", done.stdout, re.M)
    assert f"{expected:.1f} ± " in line


def test_ten_trainings_each_in_its_folder_and_resume_leaves_finished_ones_alone(splits, tmp_path):
    folders = [tmp_path / "run" / f"split{seed}" for seed in range(10)]
    started = []

    class Noted(Training):
        """Writes the results of a training at once."""

        def __init__(self, command):
            words = dict(zip(command[-6::2], command[-5::2], strict=True))
            started.append(
                (words["DATASETS.NAMES"], words["DATASETS.TESTS"], words["OUTPUT_DIR"], "--resume" in command)
            )
            folder = tmp_path / "run" / words["OUTPUT_DIR"]
            folder.mkdir(parents=True, exist_ok=True)
            metrics = dict.fromkeys(("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"), 50.0)
            (folder / "results.json").write_text(json.dumps({f"OccludedREIDHalfSplit{len(started) - 1}": metrics}))
            self.returncode = 0

    done = splits("OccludedREIDHalfSplit", trains=Noted)
    assert done.returncode == 0, done.stderr[-2000:]
    sets = [f"('OccludedREIDHalfSplit{seed}',)" for seed in range(10)]
    assert started == [(*2 * [name], str(folder), False) for name, folder in zip(sets, folders, strict=True)]
    assert re.search(r"mean ± standard deviation of 10 +\| OccludedREIDHalfSplit ", done.stdout)
    (folders[3] / "results.json").unlink()
    started[:] = started[:3]  # the number of the next one
    again = splits("OccludedREIDHalfSplit", flags=["--resume"], trains=Noted)
    assert again.returncode == 0 and started[3:] == [(sets[3], sets[3], str(folders[3]), True)]


@pytest.mark.slow
def test_ten_real_trainings_are_averaged(root, splits, tmp_path):
    make_tiny_occluded_reid(root)
    done = splits("OccludedREIDHalfSplit", "SOLVER.IMS_PER_BATCH", "64")
    assert done.returncode == 0, done.stderr[-2000:]
    for seed in range(10):
        results = json.loads((tmp_path / "run" / f"split{seed}" / "results.json").read_text())
        assert list(results) == [f"OccludedREIDHalfSplit{seed}"]
    assert re.search(r"mean ± standard deviation of 10 +\| OccludedREIDHalfSplit ", done.stdout)


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["OccludedREID", "--config-file", "configs/Toy/igoas_R18.yml"],
            "PROTOCOL must be OccludedREIDHalfSplit or PartialREIDSingleShot, got OccludedREID",
        ),
        (["OccludedREIDHalfSplit", "--config-file", "absent.yml"], "absent.yml does not exist"),
    ],
)
def test_a_mistake_is_one_line(call_tool, words, message):
    done = call_tool("random_splits", *words)
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1]


def test_a_training_that_fails_ends_with_its_exit_code(root, splits):
    done = splits("occluded-reid-half-split")
    assert done.returncode == 2 and "OccludedREIDHalfSplit0: there is no folder" in done.stdout
