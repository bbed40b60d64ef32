"""The host's metrics.json: what a training told as it went on."""

import json
import os
from typing import IO

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import open_regular


def logged_lines(folder: str) -> list[dict]:
    """The lines of a run's metrics.json, [] where there is none; what a kill or a full disk has torn is left out.

    The host goes on with the file where a training was resumed, or started anew in the same folder: what the earlier
    one logged of the iterations from there on is left out.

    Raises:
        InputError: the file cannot be read.
    """
    lines = []
    try:
        with opened(folder, "rb") as file:
            for told in filter(None, map(told_by, file)):
                while lines and lines[-1]["iteration"] > told["iteration"]:
                    lines.pop()
                lines.append(told)
    except FileNotFoundError:
        pass
    return lines


def opened(folder: str, mode: str) -> IO[bytes]:
    """metrics.json of a run; raises FileNotFoundError where there is none, and InputError where it cannot be opened."""
    path = os.path.join(folder, "metrics.json")
    try:
        return open_regular(path, mode)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}: move it away") from None


def told_by(line: bytes) -> dict | None:
    """What a line tells; None where it is torn, or tells no iteration."""
    try:
        told = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or type(told.get("iteration")) is not int:
        return None
    return {name.replace("loss_mask_", "suppression_loss_"): value for name, value in told.items()}  # its former name


def values_of(lines: list[dict], name: str) -> dict[int, float]:
    """{iterations done: value} of a scalar, in order; of an iteration that is there twice the later one."""
    return {line["iteration"] + 1: line[name] for line in lines if isinstance(line.get(name), (int, float))}


def forget_from(folder: str, iteration: int) -> None:
    """Cuts off what metrics.json of a run holds of an iteration and those after it, which will be trained again.

    The file is cut in place, as a writer may have it open; a line that a kill has cut off goes too.

    Args:
        folder: of the run.
        iteration: zero-based, the one that the run goes on with.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        file = opened(folder, "rb+")
    except FileNotFoundError:
        return
    with file:
        lines = file.readlines()
        while lines and is_after(lines[-1], iteration):
            lines.pop()
        file.truncate(sum(map(len, lines)))
        if lines and not lines[-1].endswith(b"\n"):
            file.seek(0, os.SEEK_END)
            file.write(b"\n")


def is_after(line: bytes, iteration: int) -> bool:
    """Whether a line is of that iteration or a later one, or torn."""
    told = told_by(line)
    return told is None or told["iteration"] >= iteration
