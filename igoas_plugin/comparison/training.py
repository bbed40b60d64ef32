"""Runs tools/train_net.py for a run of a comparison, and follows what it prints."""

import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable

from ..host.checkpoints import write_atomically
from .runs import Run

TRAIN_NET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "train_net.py")
CONSOLE = "console.txt"  # in the folder of a run: what it printed, of all attempts
SECONDS = "seconds.json"  # how long each attempt took
PROGRESS = re.compile(r"epoch/iter: (\d+)/(\d+)")


def train(run: Run, progress: Callable[[int, int], None]) -> str:
    """Trains and evaluates a run, from its last checkpoint where there is one.

    Args:
        run: of a comparison; its folder is made.
        progress: is told epoch and iteration, both from 0, as the run prints them.

    Returns:
        "" where it came to its end, else its last words in one line.
    """
    os.makedirs(run.folder, exist_ok=True)
    command = [sys.executable, os.path.normpath(TRAIN_NET), "--config-file", run.config_file, "--resume", *run.opts]
    started, last_words = time.monotonic(), deque(maxlen=1)
    try:
        with (
            open(os.path.join(run.folder, CONSOLE), "a") as console,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
            ) as process,
        ):
            for line in process.stdout:
                console.write(line)
                console.flush()
                if line.strip():
                    last_words.append(line.strip())
                if at := PROGRESS.search(line):
                    progress(int(at[1]), int(at[2]))
    finally:
        add_seconds(run.folder, time.monotonic() - started)
    if process.returncode == 0 and run.done:
        return ""
    return f"exit code {process.returncode}: {last_words[0] if last_words else 'no output'}"


def add_seconds(folder: str, seconds: float) -> None:
    attempts = [*seconds_of(folder), round(seconds, 3)]
    write_atomically(os.path.join(folder, SECONDS), lambda file: file.write(json.dumps(attempts).encode()))


def seconds_of(folder: str) -> list[float]:
    """How long each attempt of a run took; [] where it was not started by a comparison."""
    try:
        with open(os.path.join(folder, SECONDS)) as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return []
