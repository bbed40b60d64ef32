"""Thousands of steps and many evaluations in one process: memory, open files and processes do not grow.

Each takes some minutes: the default suite has the shorter checks of the parts (histories, logs, hooks) instead.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]
SCRIPT = Path(__file__).with_name("long_run.py")
# Of the resident memory: some 12 MB of 600; a batch has 50 KB, so that one kept a step would add 75 MB
GROWTH = 0.02


def watched(command: str, folder: Path, count: int, every: int, workers: int) -> list[tuple[int, float, int, int]]:
    """Returns (done, MB, open files, child processes), as long_run.py prints them."""
    words = [sys.executable, SCRIPT, command, folder, count, every, workers]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-2000:]
    told = []
    for line in done.stdout.splitlines():
        if line.startswith("[") and line.endswith("]"):
            told.append(tuple(json.loads(line)))
    return told


def assert_steady(told: list[tuple[int, float, int, int]], after: int) -> None:
    start = next(each for each in told if each[0] >= after)
    later = [each for each in told if each[0] >= after]
    assert len(later) > 5
    assert max(megabytes for _, megabytes, _, _ in later) < (1 + GROWTH) * start[1], told
    assert {(files, children) for _, _, files, children in later} == {start[2:]}, told


@pytest.mark.parametrize("workers", [0, 2])
def test_two_thousand_steps_take_no_more_memory_than_five_hundred(workers, tmp_path):
    told = watched("train", tmp_path, 2000, 100, workers)
    assert told[-1][0] >= 1900 and told[0][3] == workers
    assert_steady(told, after=500)


@pytest.mark.parametrize("workers", [0, 2])
def test_fifty_evaluations_take_no_more_memory_than_five(workers, tmp_path):
    told = watched("evaluate", tmp_path, 50, 1, workers)
    assert told[-1][0] == 50 and told[-1][3] == 0  # the workers end with their evaluation
    assert_steady(told, after=5)
