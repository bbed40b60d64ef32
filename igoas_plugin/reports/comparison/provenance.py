"""By what a run was made: versions and machine."""

import importlib.metadata
import os
import platform
import subprocess

import torch

from igoas_plugin.core.version import __version__
from igoas_plugin.fastreid_fixes.device import usable_device

PACKAGE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def made_by(device: str) -> str:
    """Versions and machine, in one line.

    Args:
        device: MODEL.DEVICE of a run.
    """
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("fastreid", "torch"))
    gpu = torch.cuda.get_device_name(device) if torch.device(usable_device(device)).type == "cuda" else "no GPU used"
    return (
        f"igoas_plugin {__version__}{commit()}, {versions}, Python {platform.python_version()}; {processor()}, {gpu}, "
        f"{torch.get_num_threads()} of {os.cpu_count()} CPU threads"
    )


def commit(folder: str = PACKAGE) -> str:
    """The commit of the checkout that a folder lies in, and whether anything in it was changed; "" where there is none.

    Args:
        folder: of the package, directly below that of the checkout.
    """
    git = ["git", "-C", folder]
    questions = ["rev-parse", "--show-toplevel"], ["rev-parse", "--short", "HEAD"], ["status", "--porcelain"]
    try:
        top, head, changes = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for words in questions
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    if os.path.realpath(top) != os.path.dirname(os.path.realpath(folder)):  # an installed copy in someone's repository
        return ""
    return f" (commit {head}{', with changes' if changes else ''})"


def processor() -> str:
    """Its name as the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
