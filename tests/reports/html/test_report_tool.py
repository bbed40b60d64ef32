"""tools/report.py from its command line."""

import os
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from saved_run import save_run, save_weights

from igoas_plugin.cli import report as command
from igoas_plugin.core.errors import InputError


@pytest.fixture
def run(igoas_cfg, tmp_path):
    return save_run(igoas_cfg, tmp_path / "trained")


@pytest.fixture
def report(call_tool):
    """Returns a function that runs the tool, which must fail, and returns its error line."""

    def refused(*words, code=2) -> str:
        done = call_tool("report", *words)
        assert done.returncode == code, done.stderr
        return done.stderr.strip().splitlines()[-1]

    return refused


def test_the_command_writes_one_page_and_prints_its_path_and_size(igoas_cfg, run, call_tool):
    save_weights(igoas_cfg, run / "model_final.pth")
    before = sorted(os.listdir(run))
    done = call_tool("report", run, "--queries", "1", "TEST.FLIP.ENABLED", "True")
    assert done.returncode == 0, done.stderr[-2000:]
    made = run / "report.html"
    assert done.stdout.splitlines()[-1] == f"{made}, {made.stat().st_size / 1e6:.1f} MB"
    assert sorted(os.listdir(run)) == sorted([*before, "report.html"])
    soup = BeautifulSoup(made.read_text(), "html.parser")
    assert soup.title.string == "Evaluation of trained" and len(soup.find_all("article")) == 3
    assert "flipping: published figures are without" in " ".join(soup.main.get_text(" ").split())


MISTAKES = [
    (["MODEL.WEIGHTS", "absent.pth"], "checkpoint absent.pth does not exist"),
    (["TEST.FLIP.ENABLED"], "TEST.FLIP.ENABLED has no value"),
    (["DATASETS.TESTS", "('OccludedDuke',)"], "OccludedDuke"),
    (["DATASETS.TESTS", "('Nothing',)"], "each of DATASETS.NAMES and DATASETS.TESTS must be"),
    (["--output", "."], "--output . is a folder: name a file in it"),
    (["--output", f"{__file__}/page.html"], f"the folder of --output '{__file__}' cannot be written"),
    ([], "model_final.pth cannot be read"),
    (["--queries", "-1"], "--queries must not be negative"),
]


def test_a_mistake_is_one_line_and_nothing_is_written(run, report):
    before = sorted(os.listdir(run))
    told = [(message, report(run, *words)) for words, message in MISTAKES]
    assert [(message, line) for message, line in told if message not in line] == []
    assert sorted(os.listdir(run)) == before


@pytest.fixture
def evaluated(monkeypatch):
    """Replaces the evaluation by `evaluated.does`, and notes the number of queries that it is asked for."""
    state = SimpleNamespace(shown=None, does=lambda: None)

    def evaluate(run, model, count):
        state.shown = count
        return state.does()

    monkeypatch.setattr(command, "build_trained", lambda cfg: None)
    monkeypatch.setattr(command, "evaluate", evaluate)
    monkeypatch.setattr(command, "fingerprint", lambda cfg, model: SimpleNamespace(weights=""))
    monkeypatch.setattr(command, "page_of", lambda *values: b"after")
    return state


def test_a_page_that_cannot_be_written_is_one_line(run, report, evaluated, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "report.html: No space left on device" in report(run, code=1)


def test_a_folder_that_is_no_run_is_named(tmp_path, report):
    assert f"{tmp_path / 'config.yaml'} does not exist" in report(tmp_path)


def failing():
    raise InputError("that is all")


def test_a_page_that_is_there_stays_where_the_evaluation_fails(run, report, evaluated):
    (run / "report.html").write_text("before")
    evaluated.does = failing
    assert "that is all" in report(run)
    assert (run / "report.html").read_text() == "before"


def test_several_test_sets_share_the_pictures(run, report, evaluated):
    evaluated.does = failing
    shown = []
    for sets, words in ((1, []), (3, []), (9, []), (3, ["--queries", "0"])):
        report(run, *words, "DATASETS.TESTS", str(tuple(["TinyReID"] * sets)))
        shown.append(evaluated.shown)
    assert shown == [20, 6, 4, 0]
