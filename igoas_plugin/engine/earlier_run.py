"""Files of an earlier run in OUTPUT_DIR: a training that starts anew moves them into a subfolder."""

import itertools
import os
from fnmatch import fnmatch

from igoas_plugin.core.files import cannot_write

CHECKPOINTS = ("last_checkpoint", "model_*.pth")
# Files that a run, an evaluation of it, and the tools that describe it leave in OUTPUT_DIR
RUN_FILES = (
    *CHECKPOINTS,
    "config.yaml",
    "log.txt*",
    "metrics.json",
    "events.out.tfevents.*",
    "results*.json",
    "report.html",
    "occlusion_curve.*",
)


def move_earlier_run(folder: str, patterns: tuple[str, ...] = RUN_FILES) -> str | None:
    """Moves the files of an earlier run into a new subfolder `previous`, `previous-2`, ...

    Args:
        folder: OUTPUT_DIR of the run that starts; it may not exist.
        patterns: patterns of the names of the files.

    Returns:
        Path of the subfolder, or None if there was nothing to move.

    Raises:
        OutputError: a file cannot be moved.
    """
    if not os.path.isdir(folder):
        return None
    files = sorted(name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name)))
    names = [name for name in files if any(fnmatch(name, pattern) for pattern in patterns)]
    if not names:
        return None
    candidates = (os.path.join(folder, f"previous-{n}" if n > 1 else "previous") for n in itertools.count(1))
    previous = next(path for path in candidates if not os.path.lexists(path))
    try:
        os.mkdir(previous)
        for name in names:
            os.rename(os.path.join(folder, name), os.path.join(previous, name))
    except OSError as error:
        raise cannot_write(previous, error) from error
    return previous


def moved_path(path: str, folder: str, previous: str) -> str:
    """Returns the path of a file after move_earlier_run(); the same path if the file was not moved.

    Args:
        path: path of any file, or "".
        folder: OUTPUT_DIR.
        previous: subfolder that move_earlier_run() returned.
    """
    path_now = os.path.join(previous, os.path.basename(path))
    in_folder = os.path.dirname(os.path.realpath(path)) == os.path.realpath(folder)
    return path_now if path and in_folder and os.path.isfile(path_now) else path
