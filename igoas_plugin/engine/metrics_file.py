"""Reading of metrics.json, which fast-reid appends to as a training goes on."""

import json
import os
from typing import IO

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import open_regular


def logged_lines(folder: str) -> list[dict]:
    """Returns the lines of a run's metrics.json, without those torn by a kill or a full disk; [] if there is no file.

    If iterations occur twice, because an older version of the plugin trained again in the folder, the later lines win.

    Raises:
        InputError: the file cannot be read.
    """
    lines = []
    try:
        with open_metrics(folder, "rb") as file:
            for line in filter(None, map(parse_line, file)):
                while lines and lines[-1]["iteration"] > line["iteration"]:
                    lines.pop()
                lines.append(line)
    except FileNotFoundError:
        pass
    return lines


def open_metrics(folder: str, mode: str) -> IO[bytes]:
    """Opens the metrics.json of a run; raises FileNotFoundError, or InputError if it cannot be opened."""
    path = os.path.join(folder, "metrics.json")
    try:
        return open_regular(path, mode)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}: move it away") from None


def parse_line(line: bytes) -> dict | None:
    """Returns the scalars of a line, or None if the line is torn or has no iteration."""
    try:
        scalars = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return scalars if isinstance(scalars, dict) and type(scalars.get("iteration")) is int else None


def values_of(lines: list[dict], name: str) -> dict[int, float]:
    """Returns {number of finished iterations: value} of a scalar, in order; the later of two values wins."""
    return {line["iteration"] + 1: line[name] for line in lines if isinstance(line.get(name), (int, float))}


def remove_from(folder: str, iteration: int) -> None:
    """Removes an iteration and all later ones from a run's metrics.json, and a torn last line.

    The file is truncated in place, because a writer may have it open.

    Args:
        folder: folder of the run.
        iteration: zero-based number of the iteration with which the run continues.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        file = open_metrics(folder, "rb+")
    except FileNotFoundError:
        return
    with file:
        lines = file.readlines()
        while lines and not is_before(lines[-1], iteration):
            lines.pop()
        file.truncate(sum(map(len, lines)))
        if lines and not lines[-1].endswith(b"\n"):
            file.seek(0, os.SEEK_END)
            file.write(b"\n")


def is_before(line: bytes, iteration: int) -> bool:
    """Returns whether a line is whole and belongs to an earlier iteration."""
    scalars = parse_line(line)
    return scalars is not None and scalars["iteration"] < iteration
