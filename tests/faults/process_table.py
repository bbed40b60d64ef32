"""The processes that a test has started, their children and orphans included, as /proc lists them."""

import os
import time
from pathlib import Path

MARK = "STARTED_BY_TEST"  # an environment variable: it is handed down, whoever the parent is


def marked(folder) -> dict[str, str]:
    """The environment of what is started for a test, by its folder."""
    return {**os.environ, MARK: str(folder)}


def left(folder, seconds: float = 0.0) -> list[str]:
    """Command lines of the processes of a test that are still there after that time at most."""
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
    """What `condition()` gives once it gives something; a machine with much else to do takes minutes to start a run."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)
    return value
