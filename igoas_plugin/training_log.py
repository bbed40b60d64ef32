"""The host's metrics.json: what a training told as it went on."""

import json
import os


def logged_lines(folder: str) -> list[dict]:
    """The lines of a run's metrics.json, [] where there is none; what a kill or a full disk has torn is left out.

    The host goes on with the file where a training was resumed, or started anew in the same folder: what the earlier
    one logged of the iterations from there on is left out.
    """
    lines = []
    try:
        with open(os.path.join(folder, "metrics.json"), errors="replace") as file:
            for line in file:
                try:
                    told = json.loads(line)
                except ValueError:
                    continue
                if not isinstance(told, dict) or "iteration" not in told:  # the rest of a line whose start is gone
                    continue
                while lines and lines[-1]["iteration"] > told["iteration"]:
                    lines.pop()
                lines.append(told)
    except FileNotFoundError:
        pass
    return lines


def values_of(lines: list[dict], name: str) -> dict[int, float]:
    """{iterations done: value} of a scalar, in order; of an iteration that is there twice the later one."""
    return {line["iteration"] + 1: line[name] for line in lines if name in line}


def forget_from(folder: str, iteration: int) -> None:
    """Cuts off what metrics.json of a run holds of an iteration and those after it, which will be trained again.

    The file is cut in place, as a writer may have it open; a line that a kill has cut off goes too.

    Args:
        folder: of the run.
        iteration: zero-based, the one that the run goes on with.
    """
    try:
        file = open(os.path.join(folder, "metrics.json"), "rb+")
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
    try:
        return json.loads(line)["iteration"] >= iteration
    except (ValueError, KeyError, TypeError):
        return True
