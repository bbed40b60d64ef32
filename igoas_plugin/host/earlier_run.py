"""Checkpoints that an earlier training left in a folder: one that starts anew there must not go on with them."""

import contextlib
import os
import re

from igoas_plugin.atomic_file import write_atomically
from igoas_plugin.errors import InputError
from igoas_plugin.regular_file import open_regular

CHECKPOINT = re.compile(r"model_\w+\.pth")
LIST = "earlier_checkpoints.txt"  # names, one a line; it goes as the last one is replaced


def checkpoints_in(folder: str) -> set[str]:
    """Names of all checkpoints in a folder."""
    try:
        return {name for name in os.listdir(folder) if CHECKPOINT.fullmatch(name)}
    except FileNotFoundError:
        return set()


def earlier_checkpoints(folder: str) -> set[str]:
    """Names of the checkpoints in a folder that an earlier training has left there.

    Raises:
        InputError: the list of them cannot be read.
    """
    path = os.path.join(folder, LIST)
    try:
        with open_regular(path, "r", errors="replace") as file:
            return set(file.read().split())
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}: remove it, or name another OUTPUT_DIR") from None


def leave_to_earlier_run(folder: str) -> set[str]:
    """Makes all checkpoints in a folder those of an earlier training: they stay, and are not resumed.

    Returns:
        Their names.
    """
    names = checkpoints_in(folder)
    if names:
        _write(folder, names)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, "last_checkpoint"))
    return names


def take_over(folder: str, name: str) -> None:
    """Makes a checkpoint one of the training that has just replaced it."""
    names = earlier_checkpoints(folder)
    if name in names:
        _write(folder, names - {name})


def _write(folder: str, names: set[str]) -> None:
    path = os.path.join(folder, LIST)
    if names:
        write_atomically(path, lambda file: file.write("\n".join(sorted(names)).encode()))
    else:
        os.remove(path)
