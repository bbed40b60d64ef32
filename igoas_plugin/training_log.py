"""The host's metrics.json: what a training told as it went on."""

import json
import os


def logged_lines(folder: str) -> list[dict]:
    """The lines of a run's metrics.json, [] where there is none; one that was cut off by a kill is left out."""
    lines = []
    try:
        with open(os.path.join(folder, "metrics.json")) as file:
            for line in file:
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    continue
    except FileNotFoundError:
        pass
    return lines


def values_of(lines: list[dict], name: str) -> dict[int, float]:
    """{iterations done: value} of a scalar, in order; of an iteration that a resumed run did again the later one."""
    values = {line["iteration"] + 1: line[name] for line in lines if name in line}
    return dict(sorted(values.items()))
