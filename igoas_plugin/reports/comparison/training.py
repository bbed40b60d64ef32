"""Training of a run of a comparison in a process of its own, and the record of who made it: versions and machine."""

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from filelock import FileLock, Timeout

from igoas_plugin.core.command_line import stopped_with_this_process
from igoas_plugin.core.errors import PluginError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.core.processor import processor
from igoas_plugin.core.version import __version__
from igoas_plugin.engine.metrics_file import logged_lines
from igoas_plugin.fastreid_fixes.device import usable_device

from .runs import Run, write_inputs

TRAIN_NET = (sys.executable, "-m", "igoas_plugin.cli.train_net")
# Files in the folder of a run
CONSOLE = "console.txt"  # output of all attempts
SECONDS = "seconds.json"  # duration of each attempt
MADE_BY = "made_by.txt"  # versions and machine, a line for each attempt
LOOK_SECONDS = 1.0  # time between two looks at metrics.json
LOCK = "lock"  # held by the comparison that trains the run
CHECKOUT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


def train(run: Run, inputs: dict[str, int | str], progress: Callable[[int, float | None], None]) -> str | None:
    """Trains and evaluates a run; resumes it from its last checkpoint, if there is one.

    Args:
        run: a run of a comparison. Its folder is created.
        inputs: inputs of the run, see inputs_of().
        progress: is called with the number of finished iterations and the total loss, None if it is not logged, every
            second once metrics.json has a line.

    Returns:
        "" if the run has finished, None if another comparison is training it, else the last line that it printed.
    """
    os.makedirs(run.folder, exist_ok=True)
    try:
        with FileLock(os.path.join(run.folder, LOCK), blocking=False):
            if run.done:
                return ""
            write_inputs(run, inputs)
            with open(os.path.join(run.folder, MADE_BY), "a", encoding="utf-8") as file:
                file.write(made_by(run.cfg.MODEL.DEVICE) + "\n")
            return start(run, progress)
    except Timeout:
        return None
    except PluginError as error:
        return str(error)


def start(run: Run, progress: Callable[[int, float | None], None]) -> str:
    """Starts the training in its own process and waits for its end; returns "" or the last line that it printed."""
    command = [*TRAIN_NET, "--config-file", run.config_file, "--resume", *run.opts]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    earlier, started = seconds_of(run.folder), time.monotonic()
    with open(os.path.join(run.folder, CONSOLE), "ab+") as console:
        begin = console.seek(0, os.SEEK_END)
        with (
            subprocess.Popen(command, stdout=console, stderr=subprocess.STDOUT, env=environment) as process,
            stopped_with_this_process(process),
        ):
            running = True
            while running:  # once more after the end
                running = process.poll() is None
                if running:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(LOOK_SECONDS)
                write_seconds(run.folder, [*earlier, time.monotonic() - started])  # a kill loses no time
                if logged := logged_lines(run.folder):
                    progress(logged[-1]["iteration"] + 1, logged[-1].get("total_loss"))
        console.seek(begin)
        printed = console.read().decode(errors="replace").split("\n")
    last_line = next((line.strip() for line in reversed(printed) if line.strip()), "no output")
    if process.returncode == 0 and run.done:
        return ""
    return f"exit code {process.returncode}: {last_line}; all of its output is in {console.name}"


def write_seconds(folder: str, attempts: list[float]) -> None:
    """Writes the duration of each attempt of a run."""
    text = json.dumps([round(seconds, 3) for seconds in attempts])
    write_atomically(os.path.join(folder, SECONDS), lambda file: file.write(text.encode()))


def seconds_of(folder: str) -> list[float]:
    """Reads the duration of each attempt of a run; [] if no comparison has started it."""
    try:
        with open(os.path.join(folder, SECONDS), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return []


def made_by(device: str) -> str:
    """Returns versions and machine in one line.

    Args:
        device: MODEL.DEVICE of a run.
    """
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("fastreid", "torch"))
    gpu = torch.cuda.get_device_name(device) if torch.device(usable_device(device)).type == "cuda" else "no GPU used"
    return (
        f"igoas_plugin {__version__}{commit()}, {versions}, Python {platform.python_version()}; {processor()}, {gpu}, "
        f"{torch.get_num_threads()} of {os.cpu_count()} CPU threads"
    )


def commit(checkout: str = CHECKOUT) -> str:
    """Returns the commit of a checkout, with "-dirty" if files were changed; "" without a checkout or without git."""
    if not os.path.exists(os.path.join(checkout, ".git")):
        return ""
    command = ["git", "-C", checkout, "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" (commit {found.stdout.strip()})"


def makers_of(runs: list[Run]) -> list[str]:
    """Returns the different versions and machines that made the runs."""
    lines = []
    for run in runs:
        try:
            with open(os.path.join(run.folder, MADE_BY), encoding="utf-8", errors="replace") as file:
                lines += file.read().splitlines()
        except FileNotFoundError:
            continue
    return list(dict.fromkeys(lines))
