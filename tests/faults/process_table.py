"""Processes that a test has started, with their children and orphans, from /proc."""

import os
import time
from pathlib import Path

MARK = "STARTED_BY_TEST"  # an environment variable: it is handed down, whoever the parent is


def marked(folder) -> dict[str, str]:
    """Returns an environment that marks the processes of a test by its folder."""
    return {**os.environ, MARK: str(folder)}


def left(folder, seconds: float = 0.0) -> list[str]:
    """Returns the command lines of the processes of a test that still exist after a waiting time."""
    deadline = time.monotonic() + seconds
    while (found := _running(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _running(folder) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mark = f"{MARK}={folder}".encode() in (process / "environ").read_bytes().split(b"\0")
            if mark and (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(process.name + " " + (process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has just ended, or is another user's
            continue
    return found


def wait_for(condition, seconds: float = 600.0):
    """Waits until `condition()` is true, and returns its value; a busy machine takes minutes to start a run."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)
    return value
