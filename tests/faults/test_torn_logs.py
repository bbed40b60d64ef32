"""Logs that end in the middle of a line, or contain garbage: readers skip it."""

import json
import types

import pytest

from igoas_plugin.engine.metrics_file import logged_lines, remove_from, values_of
from igoas_plugin.reports.comparison.plots import training_curves
from igoas_plugin.reports.comparison.training import MADE_BY, makers_of

LINES = [{"iteration": iteration, "lr": 0.001, "total_loss": 7.5 - iteration} for iteration in (1, 3, 5)]
CONTENT = "".join(json.dumps(line, sort_keys=True) + "\n" for line in LINES).encode()


@pytest.fixture
def metrics(tmp_path):
    return tmp_path / "metrics.json"


def test_a_file_that_is_cut_off_anywhere_gives_the_lines_before(metrics, tmp_path):
    for end in range(len(CONTENT) + 1):
        metrics.write_bytes(CONTENT[:end])
        whole = CONTENT[:end].count(b"}")  # the newline alone may be missing
        assert logged_lines(str(tmp_path)) == LINES[:whole], end


def test_a_run_that_goes_on_after_a_torn_line_loses_no_more_than_the_next(metrics, tmp_path):
    first = CONTENT.index(b"\n") + 1
    for end in range(first, len(CONTENT)):
        metrics.write_bytes(CONTENT[:end] + CONTENT)
        assert logged_lines(str(tmp_path))[-2:] == LINES[-2:], end


@pytest.mark.parametrize(
    "garbage", [b"\0" * 4096, b"\xff\xfe\x80", b"5\n", b"[1]\n", b'"iteration"\n', b"{}\n", b"null\n"]
)
def test_what_was_never_written_is_passed_over(garbage, metrics, tmp_path):
    metrics.write_bytes(CONTENT + garbage)
    assert logged_lines(str(tmp_path)) == LINES
    metrics.write_bytes(garbage.rstrip(b"\n") + b"\n" + CONTENT)
    assert values_of(logged_lines(str(tmp_path)), "total_loss") == {2: 6.5, 4: 4.5, 6: 2.5}


def test_a_comparison_draws_what_a_torn_log_holds(metrics, tmp_path):
    metrics.write_bytes(CONTENT[:-5] + b"\0\0\xff")
    (tmp_path / MADE_BY).write_bytes(b"torch 2\n\xfftor")
    run = types.SimpleNamespace(folder=str(tmp_path), name="one")
    (curve,) = training_curves([run], {"one": "C0"}).axes[0].lines
    assert curve.get_xydata().tolist() == [[2, 6.5], [4, 4.5]]
    assert makers_of([run])[0] == "torch 2"


@pytest.mark.parametrize("garbage", [b'{"iteration": "x"}\n', b'{"iteration": null}\n', b"[" * 100_000 + b"\n"])
def test_a_line_that_tells_no_number_of_an_iteration_is_passed_over_and_cut_off(garbage, metrics, tmp_path):
    metrics.write_bytes(garbage + CONTENT + garbage)
    assert logged_lines(str(tmp_path)) == LINES
    remove_from(str(tmp_path), 4)
    assert metrics.read_bytes() == garbage + b"".join(CONTENT.splitlines(keepends=True)[:2])


def test_a_value_that_is_no_number_is_no_value():
    lines = [{"iteration": 1, "lr": "x"}, {"iteration": 2, "lr": None}, {"iteration": 3, "lr": 0.5}]
    assert values_of(lines, "lr") == {4: 0.5}
