"""Reading of metrics.json, which fast-reid appends to as a training goes on."""

import json
import os


def logged_lines(folder: str) -> list[dict]:
    """Returns the lines of a run's metrics.json, without those torn by a kill or a full disk; [] if there is no file.

    If iterations occur twice, because an older version of the plugin trained again in the folder, the later lines win.
    """
    lines = []
    for line in filter(None, map(parse_line, read_lines(folder))):
        while lines and lines[-1]["iteration"] > line["iteration"]:
            lines.pop()
        lines.append(line)
    return lines


def read_lines(folder: str) -> list[bytes]:
    """Returns the lines of a run's metrics.json with their newlines, torn ones too; [] if there is no file."""
    try:
        with open(os.path.join(folder, "metrics.json"), "rb") as file:
            return file.readlines()
    except FileNotFoundError:
        return []


def parse_line(line: bytes) -> dict | None:
    """Returns the scalars of a line, or None if the line is torn or has no iteration."""
    try:
        scalars = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(scalars, dict) or type(scalars.get("iteration")) is not int:
        return None
    # runs of version 0.1 have the suppression loss under another name
    return {name.replace("loss_mask_", "suppression_loss_"): value for name, value in scalars.items()}


def values_of(lines: list[dict], name: str) -> dict[int, float]:
    """Returns {number of finished iterations: value} of a scalar, in order; the later of two values wins."""
    return {line["iteration"] + 1: line[name] for line in lines if isinstance(line.get(name), (int, float))}


def epoch_length(lines: list[dict], eval_period: int, epochs: int) -> int | None:
    """Returns the number of iterations of an epoch, which metrics.json does not hold; None if it cannot be known.

    The first evaluation comes after epoch `eval_period`, or after the last one. The last iteration of every epoch is
    logged, so a length that an older config explains is refused.

    Args:
        lines: lines of a training, see logged_lines().
        eval_period: TEST.EVAL_PERIOD.
        epochs: SOLVER.MAX_EPOCH.

    Example:
        >>> epoch_length([{"iteration": 9}, {"iteration": 19, "mAP": 50.0}], eval_period=2, epochs=90)
        10
    """
    evaluated = [line["iteration"] + 1 for line in lines if any(is_map(name) for name in line)]
    logged = {line["iteration"] + 1 for line in lines}
    period = min(eval_period, epochs) if eval_period > 0 else epochs
    if not evaluated or period < 1 or evaluated[0] % period:
        return None
    length = evaluated[0] // period
    return length if logged.issuperset(range(length, max(logged) + 1, length)) else None


def is_map(name: str) -> bool:
    """Returns whether a scalar is the mAP of a test set: ``mAP``, or ``<set>/mAP`` of one of several sets."""
    return name.split("/")[-1] == "mAP"


def remove_from(folder: str, iteration: int) -> None:
    """Removes an iteration (from 0) and all later ones from a run's metrics.json, and a torn last line.

    The file is changed in place, because a writer may have it open.
    """
    lines = read_lines(folder)
    while lines and not ((scalars := parse_line(lines[-1])) and scalars["iteration"] < iteration):
        lines.pop()
    path = os.path.join(folder, "metrics.json")
    if os.path.exists(path):
        os.truncate(path, sum(map(len, lines)))
    if lines and not lines[-1].endswith(b"\n"):
        with open(path, "ab") as file:
            file.write(b"\n")
