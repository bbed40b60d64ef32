"""tools/search.py as a user runs it, with a real model."""

import json
import os
import runpy
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from small_predictor import SmallPredictor, draw, names

import igoas_plugin

# isort: split
from fastreid.modeling import build_model

from igoas_plugin.config import load_cfg
from igoas_plugin.search.gallery_file import GalleryFile

TOOL = str(Path(__file__).parents[2] / "tools" / "search.py")
CONFIG = str(Path(__file__).parents[2] / "configs" / "Toy" / "igoas_R18.yml")
# Saves after every batch, and is killed where the second save is on the disk but not yet in place of the first
KILLED = f"""
import os, runpy, signal, sys
from igoas_plugin.search import indexing
indexing.SAVE_SECONDS, indexing.SAVE_SHARE = 0, 1e9
saves, sync = [], os.fsync
def kill_at_the_second(file):
    saves.append(sync(file))
    if len(saves) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = kill_at_the_second
sys.argv = [{TOOL!r}, *sys.argv[1:]]
runpy.run_path({TOOL!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> list[str]:
    cfg = load_cfg(CONFIG)
    cfg.MODEL.DEVICE, cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.HEADS.NUM_CLASSES = "cpu", False, 1
    torch.manual_seed(0)
    weights = str(tmp_path_factory.mktemp("model") / "weights.pth")
    torch.save({"model": build_model(cfg).state_dict()}, weights)
    small = ("INPUT.SIZE_TEST", "[32,16]", "TEST.IMS_PER_BATCH", "4", "MODEL.DEVICE", "cpu")
    return ["--config-file", CONFIG, "MODEL.WEIGHTS", weights, *small]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the tool in this process: (exit status, what it printed)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", [TOOL, *map(str, words)])
        status = 0
        try:
            runpy.run_path(TOOL, run_name="__main__")
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr()

    return run


def in_a_process(*words) -> subprocess.CompletedProcess:
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # more threads than free cores only wait for each other
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300, env=alone)


def test_an_index_is_killed_goes_on_and_answers(model, tmp_path, run):
    crops, index, page = tmp_path / "crops", tmp_path / "gallery.index", tmp_path / "page.html"
    draw(crops, [*names(14), "line\nend.png"])
    (crops / "torn.png").write_text("torn")
    make = ("index", crops, "--output", index, *model, "--kind", "hnsw")
    killed = in_a_process("-c", KILLED, *make)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with GalleryFile(str(index)) as file:
        assert len(file.gallery.crops) == 4 and not file.finished
    status, printed = run(*make)
    assert status == 0
    assert printed.out == f"{index}: 11 added, 4 already there, 0 gone or changed, 1 unreadable\n"

    ask = ("query", crops / "line\nend.png", crops / "0" / "0003.png", "--index", index, *model, "--top", "3")
    done = in_a_process(TOOL, *ask, "--format", "json", "--html", page)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [each["matches"][0]["path"] for each in answers["queries"]] == ["line\nend.png", "0/0003.png"]
    assert [each["matches"][0]["score"] for each in answers["queries"]] == [1.0, 1.0]
    assert [len(each["matches"]) for each in answers["queries"]] == [3, 3]
    assert page.read_text().count("<img ") == 2 * 4
    assert "2 images described in " in done.stderr and "15 searched in " in done.stderr
    predictor = igoas_plugin.Predictor(load_cfg(CONFIG, model[2:]))
    with GalleryFile(str(index)) as file:
        found = file.descriptors()
        made = predictor([os.path.join(crops, crop.path) for crop in file.gallery.crops])
    np.testing.assert_allclose(found, made, rtol=0, atol=1e-5)  # batches are others, so sums are

    status, printed = run(*ask[:5], *model, "TEST.FLIP.ENABLED", "True")
    assert status == 2 and printed.out == ""
    assert (
        printed.err.count("\n") == 1
        and "by another model than this one: TEST.FLIP.ENABLED False and True" in printed.err
    )


def test_an_onnx_model_takes_the_place_of_config_and_weights(tmp_path, run, monkeypatch):
    paths = []
    module = types.SimpleNamespace(OnnxPredictor=lambda path: paths.append(path) or SmallPredictor())
    monkeypatch.setitem(sys.modules, "igoas_plugin.onnx_predictor", module)
    draw(tmp_path / "crops", names(3))
    index = tmp_path / "gallery.index"
    status, printed = run("index", tmp_path / "crops", "--output", index, "--model", "model.onnx")
    assert (status, printed.out) == (0, f"{index}: 3 added, 0 already there, 0 gone or changed, 0 unreadable\n")
    status, printed = run("query", tmp_path / "crops/0/0000.png", "--index", index, "--model", "model.onnx")
    assert status == 0 and "\n   1   1.0000  0/0000.png\n" in printed.out
    assert paths == ["model.onnx", "model.onnx"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["query", "a.png", "--index", "no.index"], "no.index does not exist: make it by tools/search.py index"),
        (["query", "a.png", "--index", "no.index", "--html", "/dev/null/a.html"], "the folder of --html '/dev/null' "),
        (["index", "no\nfolder", "--output", "a.index"], "/no\\nfolder: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(run, monkeypatch, words, message):
    module = types.SimpleNamespace(OnnxPredictor=lambda path: SmallPredictor())
    monkeypatch.setitem(sys.modules, "igoas_plugin.onnx_predictor", module)
    status, printed = run(*words, "--model", "model.onnx")
    assert status == 2 and printed.out == ""
    assert message in printed.err and printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "words, message",
    [
        (["query", "a.png", "--index", "a.index"], "one of the arguments --config-file --model is required"),
        (["query", "a.png", "--index", "a.index", "--model", "m", "--top", "0"], "must be a whole number from 1"),
        (["index", "crops", "--output", "a.index", "--model", "m", "--kind", "lsh"], "invalid choice: 'lsh'"),
    ],
)
def test_a_wrong_command_line_is_refused(run, words, message):
    status, printed = run(*words)
    assert status == 2 and message in printed.err


def test_ctrl_c_ends_without_a_traceback(tmp_path, run, monkeypatch):
    class Stopped(SmallPredictor):
        def describe(self, images):
            raise KeyboardInterrupt

    module = types.SimpleNamespace(OnnxPredictor=lambda path: Stopped())
    monkeypatch.setitem(sys.modules, "igoas_plugin.onnx_predictor", module)
    draw(tmp_path / "crops", names(3))
    status, printed = run("index", tmp_path / "crops", "--output", tmp_path / "a.index", "--model", "model.onnx")
    assert status == 130 and printed.err.splitlines()[-1] == "interrupted" and printed.out == ""
