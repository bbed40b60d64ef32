import json
from dataclasses import asdict

import torch
from matplotlib.figure import Figure
from tabulate import tabulate

from ..visualization.figures import rendered
from .measure import Row

FACTS = {
    "rank_1": "Rank-1",
    "map": "mAP",
    "recall": "recall",
    "build_seconds": "build s",
    "cosine": "cosine",
    "first_seconds": "first step s",
    "peak_share": "of the peak",
    "costs": "largest costs",
}


def name_of(dtype: torch.dtype) -> str:
    """Such as bfloat16."""
    return str(dtype).removeprefix("torch.")


def shown(fact: float | str) -> str:
    return fact if isinstance(fact, str) else f"{fact:.4g}"


def as_json(rows: list[Row], machine: dict, command: str) -> str:
    """All repeats of all rows, with what they were measured on."""
    return json.dumps({"command": command, "machine": machine, "rows": [asdict(row) for row in rows]}, indent=2)


def as_table(rows: list[Row]) -> str:
    """A row a way; the ratio is that of the medians, to the first way of the same case."""
    plain, lines = {}, []
    facts = [fact for fact in FACTS if any(fact in row.facts for row in rows)]
    rated = any(row.unit for row in rows)
    for row in rows:
        first = plain.setdefault(row.case, row)
        lines.append(
            [
                row.case,
                row.way,
                f"{row.median:.3g} ± {100 * row.spread:.0f} %",
                *([f"{row.work / row.median:.4g} {row.unit}/s" if row.unit else ""] if rated else []),
                f"{first.median / row.median:.2f}" if first is not row else "1",
                "-" if row.memory_mb is None else f"{row.memory_mb:.0f}",
                *(shown(row.facts.get(fact, "")) for fact in facts),
            ]
        )
    headers = ["case", "way", "seconds", *(["speed"] if rated else []), "times faster", "peak MB"]
    return tabulate(lines, headers=[*headers, *(FACTS[fact] for fact in facts)], tablefmt="pipe", disable_numparse=True)


def growth_plot(rows: list[Row]) -> bytes | None:
    """A PNG of time and peak memory over the size of the gallery, a line a way; None of fewer than two sizes."""
    rows = [row for row in rows if "gallery" in row.facts]
    if len({row.facts["gallery"] for row in rows}) < 2:
        return None
    figure = Figure(figsize=(9, 3.5), layout="tight")
    panels = figure.subplots(1, 2)
    for way in dict.fromkeys(row.way for row in rows):
        own = [row for row in rows if row.way == way]
        sizes = [row.facts["gallery"] / 1000 for row in own]
        panels[0].plot(sizes, [row.median for row in own], "o-", label=way)
        panels[1].plot(sizes, [row.memory_mb or float("nan") for row in own], "o-", label=way)
    panels[0].set(xlabel="gallery images (thousands)", ylabel="seconds", ylim=0)
    panels[1].set(xlabel="gallery images (thousands)", ylabel="peak memory beyond the descriptors (MB)", ylim=0)
    panels[0].legend()
    return rendered(figure)
