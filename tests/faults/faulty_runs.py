"""Runs of tools/train_net.py that a test disturbs."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """Returns the child processes of a process, zombies too, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def descendants_of(pid: int) -> list[int]:
    return [each for child in children_of(pid) for each in (child, *descendants_of(child))]


def is_loader_worker(pid: int) -> bool:
    """Returns whether a process is a forked copy of its parent: both have the same command line."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return Path(f"/proc/{pid}/cmdline").read_bytes() == Path(f"/proc/{stat[1]}/cmdline").read_bytes()
    return False


def wait_for(condition: Callable[[], object], seconds: float = 600):
    """Waits until the condition is true, and returns its value; raises AssertionError after a timeout."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.05)
    return found


class FaultyRun:
    """Run in its own process group.

    Args:
        command: as the fixture tool_command gives it.
        folder: for what it says.
        prefix: a command that starts it.
    """

    def __init__(self, command: list[str], folder: Path, prefix: tuple[str, ...] = ()):
        self.stderr, self.stdout = folder / "stderr.txt", folder / "stdout.txt"
        with open(self.stderr, "w") as stderr, open(self.stdout, "w") as stdout:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, *command], stdout=stdout, stderr=stderr, start_new_session=True
            )
        self.log = folder / "run" / "log.txt"
        self.started: set[int] = set()

    def says(self, text: str) -> bool:
        """Returns whether the log contains a text."""
        return self.log.exists() and text in self.log.read_text()

    def workers(self) -> list[int]:
        """Returns the present loader workers."""
        found = descendants_of(self.process.pid)
        self.started |= {*found}
        return [pid for pid in found if is_loader_worker(pid)]

    def ends(self, seconds: float) -> float:
        """Waits for the end and returns the time it took; raises AssertionError after `seconds`."""
        since = time.monotonic()
        self.workers()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s: {self.last_lines()}") from None
        return time.monotonic() - since

    def left(self) -> list[int]:
        """Returns the processes of the run that still exist, zombies too."""
        self.started |= {*descendants_of(self.process.pid)}
        return [pid for pid in self.started if os.path.exists(f"/proc/{pid}")]

    def last_lines(self, count: int = 5) -> list[str]:
        return [line for line in self.stderr.read_text().splitlines() if line.strip()][-count:]


@contextlib.contextmanager
def faulty_run(*args, **kwargs) -> Iterator[FaultyRun]:
    """Context with a run, whose processes are killed at the end."""
    run = FaultyRun(*args, **kwargs)
    try:
        yield run
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()
