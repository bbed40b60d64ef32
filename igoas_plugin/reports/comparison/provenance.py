"""Versions and machine that made a run or a page."""

import importlib.metadata
import os
import platform
import subprocess

import torch

from igoas_plugin.core.version import __version__
from igoas_plugin.fastreid_fixes.device import usable_device

PACKAGE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


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


def commit(folder: str = PACKAGE) -> str:
    """Returns the commit of the checkout that holds the package, and whether files were changed; "" without a checkout.

    Args:
        folder: folder of the package, directly below the checkout.
    """
    questions = ["rev-parse", "--show-toplevel"], ["rev-parse", "--short", "HEAD"], ["status", "--porcelain"]
    try:
        top, head, changes = (
            subprocess.run(
                ["git", "-C", folder, *words], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for words in questions
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    if os.path.realpath(top) != os.path.dirname(os.path.realpath(folder)):  # installed inside another repository
        return ""
    return f" (commit {head}{', with changes' if changes else ''})"


def processor() -> str:
    """Returns the name of the processor, as the system reports it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
