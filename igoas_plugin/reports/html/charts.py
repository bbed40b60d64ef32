"""Line charts as inline SVG: the geometry; a template draws it, with the same numbers as a table."""

import math
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, HEIGHT = 400, 260  # of the view box; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 44  # margins


class Line(NamedTuple):
    """A line of a chart.

    Args:
        name: of it.
        points: (x, y), by x.
        dots: whether its points are marked.
    """

    name: str
    points: list[tuple[float, float]]
    dots: bool = True


class Tick(NamedTuple):
    place: float
    label: str


@dataclass(frozen=True)
class Chart:
    """Lines over a number; y is in % and begins at 0.

    Args:
        key: unique among those of its kind, for ids.
        title: of the chart.
        description: what it shows, in a sentence or two, for those who do not see it.
        x_label, y_label: of the axes.
        lines: with at least one point each.
        told: x values of the table beside it; None: all.
    """

    key: str
    title: str
    description: str
    x_label: str
    y_label: str
    lines: list[Line]
    told: list[float] | None = None

    left, right, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM

    @property
    def xs(self) -> list[float]:
        return sorted({x for line in self.lines for x, _ in line.points})

    @property
    def y_max(self) -> float:
        """The next ten above the highest point, at least 10."""
        return max(10.0, 10 * math.ceil(max(y for line in self.lines for _, y in line.points) / 10 - 1e-9))

    def x(self, value: float) -> float:
        low, high = self.xs[0], self.xs[-1]
        return round(self.left + (self.right - self.left) * ((value - low) / (high - low) if high > low else 0.5), 1)

    def y(self, value: float) -> float:
        return round(TOP + (self.bottom - TOP) * (1 - value / self.y_max), 1)

    def path(self, line: Line) -> str:
        """Of an SVG polyline."""
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in line.points)

    def dots(self, line: Line) -> list[tuple[float, float]]:
        return [(self.x(x), self.y(y)) for x, y in line.points] if line.dots else []

    @property
    def x_ticks(self) -> list[Tick]:
        ticks = self.xs if len(self.xs) <= 10 else [x for x in self.xs if x == 1 or x % 10 == 0]
        return [Tick(self.x(x), f"{x:g}") for x in ticks]

    @property
    def y_ticks(self) -> list[Tick]:
        step = 10 if self.y_max <= 50 else 20
        return [Tick(self.y(y), f"{y}") for y in range(0, round(self.y_max) + 1, step)]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Of the table: x, then y of each line; "-" where a line has no such point."""
        values = [dict(line.points) for line in self.lines]
        cells = [(x, [each.get(x) for each in values]) for x in (self.told or self.xs)]
        return [(f"{x:g}", *("-" if y is None else f"{y:.1f}" for y in ys)) for x, ys in cells]
