"""tools/search.py as a user runs it, with a real model."""

import json
import multiprocessing
import os
import signal
import sys
import types

import numpy as np
import pytest
from saved_models import saved_igoas
from small_predictor import SmallPredictor, draw, names

import igoas_plugin
from igoas_plugin.config import load_cfg
from igoas_plugin.inference.search import indexing
from igoas_plugin.inference.search.gallery_file import GalleryFile

FORK = multiprocessing.get_context("fork")  # a new process would take seconds to import torch


@pytest.fixture
def run(call_tool):
    """Function that runs the tool and returns its exit code and its output."""

    def run(*words):
        done = call_tool("search", *words)
        return done.returncode, types.SimpleNamespace(out=done.stdout, err=done.stderr)

    return run


@pytest.fixture
def model_file(tmp_path, monkeypatch):
    """Changes to a folder with a file model.onnx, which the tool asks for before it imports anything."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").touch()


@pytest.fixture
def onnx(model_file, monkeypatch):
    """Puts a fast predictor in the place of --model FILE."""
    module = types.SimpleNamespace(OnnxPredictor=lambda path: SmallPredictor())
    monkeypatch.setitem(sys.modules, "igoas_plugin.inference.onnx_predictor", module)


def kill_at_the_second_save(run, *words) -> None:
    """Saves after every batch, and kills the process before the second save replaces the first."""
    indexing.SAVE_SECONDS, indexing.SAVE_SHARE = 0, 1e9
    saves, sync = [], os.fsync

    def kill_at_the_second(file):
        saves.append(sync(file))
        if len(saves) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = kill_at_the_second
    run(*words)


def test_an_index_is_killed_goes_on_and_answers(onnx, tmp_path, run):
    crops, index, page = tmp_path / "crops", tmp_path / "gallery.index", tmp_path / "page.html"
    draw(crops, [*names(14), "line\nend.png"])
    (crops / "torn.png").write_text("torn")
    make = ("index", crops, "--output", index, "--model", "model.onnx", "--kind", "hnsw")
    killed = FORK.Process(target=kill_at_the_second_save, args=(run, *make))
    killed.start()
    killed.join(600)
    assert killed.exitcode == -signal.SIGKILL
    with GalleryFile(str(index)) as file:
        assert len(file.gallery.crops) == 4 and not file.finished
    status, printed = run(*make)
    assert status == 0
    assert printed.out == f"{index}: 11 added, 4 already there, 0 gone or changed, 1 unreadable\n"

    ask = ("query", crops / "line\nend.png", crops / "0" / "0003.png", "--index", index, "--model", "model.onnx")
    status, printed = run(*ask, "--top", "3", "--format", "json", "--html", page)
    assert status == 0, printed.err
    answers = json.loads(printed.out)
    assert [each["matches"][0]["path"] for each in answers["queries"]] == ["line\nend.png", "0/0003.png"]
    assert [each["matches"][0]["score"] for each in answers["queries"]] == [1.0, 1.0]
    assert [len(each["matches"]) for each in answers["queries"]] == [3, 3]
    assert page.read_text().count("<img ") == 2 * 4
    assert f"The pictures are on {page}\n" in printed.err
    assert "2 images described in " in printed.err and "15 searched in " in printed.err


def test_a_model_of_a_config_describes_as_the_predictor_does_and_another_one_is_refused(tmp_path, run):
    crops, index = tmp_path / "crops", tmp_path / "gallery.index"
    draw(crops, names(6))
    cfg = saved_igoas(tmp_path)
    (tmp_path / "config.yml").write_text(cfg.dump())
    model = ("--config-file", tmp_path / "config.yml", "MODEL.WEIGHTS", cfg.MODEL.WEIGHTS, "TEST.IMS_PER_BATCH", "4")
    status, printed = run("index", crops, "--output", index, *model)
    assert status == 0, printed.err
    predictor = igoas_plugin.Predictor(load_cfg(str(tmp_path / "config.yml")))
    with GalleryFile(str(index)) as file:
        found = file.descriptors()
        made = predictor([os.path.join(crops, crop.path) for crop in file.gallery.crops])
    np.testing.assert_allclose(found, made, rtol=0, atol=1e-5)  # other batch sizes round differently

    ask = ("query", crops / "0" / "0003.png", "--index", index, *model)
    status, printed = run(*ask)
    assert status == 0 and "\n   1   1.0000  0/0003.png\n" in printed.out, printed.err
    status, printed = run(*ask, "TEST.FLIP.ENABLED", "True")
    assert status == 2 and printed.out == ""
    [line] = [line for line in printed.err.splitlines() if line.startswith("igoas_plugin ")]
    assert line == printed.err.splitlines()[-1]
    assert "by another model than this one: TEST.FLIP.ENABLED False and True" in line


@pytest.mark.parametrize(
    "words, message",
    [
        (["query", "a.png", "--index", "no.index"], "no.index does not exist: make it by tools/search.py index"),
        (["query", "a.png", "--index", "model.onnx", "--html", "/dev/null/a.html"], "folder of --html '/dev/null' "),
        (["index", "no\nfolder", "--output", "a.index"], "/no\\nfolder: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(run, onnx, words, message):
    status, printed = run(*words, "--model", "model.onnx")
    assert status == 2 and printed.out == ""
    assert message in printed.err and printed.err.count("\n") == 1


def test_a_top_that_is_no_number_of_matches_is_refused(run):
    status, printed = run("query", "a.png", "--index", "a.index", "--model", "model.onnx", "--top", "0")
    assert status == 2 and "must be a whole number from 1" in printed.err


def test_ctrl_c_ends_without_a_traceback(tmp_path, run, model_file, monkeypatch):
    class Stopped(SmallPredictor):
        def describe(self, images):
            raise KeyboardInterrupt

    module = types.SimpleNamespace(OnnxPredictor=lambda path: Stopped())
    monkeypatch.setitem(sys.modules, "igoas_plugin.inference.onnx_predictor", module)
    draw(tmp_path / "crops", names(3))
    status, printed = run("index", tmp_path / "crops", "--output", tmp_path / "a.index", "--model", "model.onnx")
    assert status == 130 and printed.err.splitlines()[-1] == "interrupted" and printed.out == ""
