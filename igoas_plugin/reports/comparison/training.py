"""Starts the training of a run of a comparison, and follows its metrics.json."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from igoas_plugin.core.command_line import stopped_with_this_process
from igoas_plugin.core.errors import PluginError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.engine.metrics_file import logged_lines
from igoas_plugin.occlusion import OCCLUSION_REGISTRY

from .inputs import note_inputs
from .provenance import made_by
from .runs import Run

try:
    import fcntl
except ImportError:  # not on Windows: two comparisons in one folder are not kept apart there
    fcntl = None

TRAIN_NET = (sys.executable, "-m", "igoas_plugin.cli.train_net")
# Where a component of a user may be registered
REGISTRIES = (BACKBONE_REGISTRY, DATASET_REGISTRY, META_ARCH_REGISTRY, OCCLUSION_REGISTRY, REID_HEADS_REGISTRY)
CONSOLE = "console.txt"  # in the folder of a run: what it printed, of all attempts
SECONDS = "seconds.json"  # how long each attempt took
MADE_BY = "made_by.txt"  # versions and machine, a line an attempt
LOCK = "lock"  # held by the training, also when the comparison that started it was killed
NOTED_EVERY = 30.0  # seconds between two notes of the time: a kill loses no more


def train(run: Run, inputs: dict[str, int | str], progress: Callable[[int], None]) -> str | None:
    """Trains and evaluates a run, from its last checkpoint where there is one.

    Args:
        run: of a comparison; its folder is made.
        inputs: what it starts with, of inputs_of().
        progress: is called with the number of iterations that are done, as the run logs them.

    Returns:
        "" where it came to its end, else its last words in one line; None where another process is training it.
    """
    os.makedirs(run.folder, exist_ok=True)
    with locked(run.folder) as handles:
        if handles is None:
            return None
        if run.done:
            return ""
        try:
            note_inputs(run, inputs)
        except PluginError as error:
            return str(error)
        with open(os.path.join(run.folder, MADE_BY), "a") as file:
            file.write(made_by(run.cfg.MODEL.DEVICE) + "\n")
        return start(run, progress, handles)


def start(run: Run, progress: Callable[[int], None], handles: tuple[int, ...]) -> str:
    """Starts the training as a process that inherits the handles, and follows it to its end."""
    command = [*TRAIN_NET, "--config-file", run.config_file, "--resume", *run.opts]
    earlier, started, noted, last_words = seconds_of(run.folder), time.monotonic(), 0.0, deque(maxlen=1)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with (
        open(os.path.join(run.folder, CONSOLE), "a") as console,
        subprocess.Popen(command, **pipes, env=with_own_modules(os.environ), pass_fds=handles) as process,
    ):
        try:
            with stopped_with_this_process(process):
                for line in process.stdout:
                    console.write(line)
                    console.flush()
                    if line.strip():
                        last_words.append(line.strip())
                    if logged := logged_lines(run.folder):
                        progress(logged[-1]["iteration"] + 1)
                    if time.monotonic() - noted > NOTED_EVERY:
                        noted = time.monotonic()
                        note_seconds(run.folder, [*earlier, noted - started])
        finally:
            note_seconds(run.folder, [*earlier, time.monotonic() - started])
    if process.returncode == 0 and run.done:
        return ""
    return f"exit code {process.returncode}: {last_words[0] if last_words else 'no output'}"


def with_own_modules(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a training that imports the user's modules, whose components are registered here."""
    components = [component for registry in REGISTRIES for component in registry._obj_map.values()]
    names = {component.__module__ for component in components}
    own = sorted(name for name in names if name.split(".")[0] not in ("fastreid", "igoas_plugin", "__main__"))
    folders = {top_folder(name) for name in own} - {None}
    path = [*sorted(folders), *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "IGOAS_PLUGIN_IMPORT": " ".join(own), "PYTHONPATH": os.pathsep.join(path)}


def top_folder(module: str) -> str | None:
    """Returns the folder that a loaded module is imported from; None where it has no file."""
    file = getattr(sys.modules.get(module.split(".")[0]), "__file__", None)
    if file is None:
        return None
    folder = os.path.dirname(os.path.abspath(file))
    return os.path.dirname(folder) if os.path.basename(file) == "__init__.py" else folder


@contextlib.contextmanager
def locked(folder: str):
    """Holds the lock of a run; gives the handles that a child inherits to hold it on, or None where another has it."""
    with open(os.path.join(folder, LOCK), "w") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield () if fcntl is None else (file.fileno(),)


def note_seconds(folder: str, attempts: list[float]) -> None:
    text = json.dumps([round(seconds, 3) for seconds in attempts])
    write_atomically(os.path.join(folder, SECONDS), lambda file: file.write(text.encode()))


def seconds_of(folder: str) -> list[float]:
    """How long each attempt of a run took; [] where it was not started by a comparison."""
    try:
        with open(os.path.join(folder, SECONDS)) as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return []


def makers_of(runs: list[Run]) -> list[str]:
    """The different versions and machines that runs were made by, in their order."""
    lines = []
    for run in runs:
        try:
            with open(os.path.join(run.folder, MADE_BY), errors="replace") as file:
                lines += file.read().splitlines()
        except FileNotFoundError:
            continue
    return list(dict.fromkeys(lines))
