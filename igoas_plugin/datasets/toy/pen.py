"""Pen that draws in the units of a figure, wherever and however large the figure stands in the picture."""

from collections.abc import Sequence
from itertools import pairwise

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Paint = Colour | Image.Image  # an image of the layer's size shows inside the shape
Point = tuple[float, float]


class Pen:
    """Draws opaque shapes on a layer; x points to the right, y down.

    Args:
        layer: RGB or RGBA image that is drawn on.
        unit: pixels of the layer in one unit of the figure, > 0.
        origin: pixel of the layer where (0, 0) of the figure lies.
        mirrored: True turns the figure left to right about x = 0.
    """

    def __init__(self, layer: Image.Image, unit: float, origin: Point = (0.0, 0.0), mirrored: bool = False):
        self.layer = layer
        self.unit = unit
        self.origin = origin
        self.x_unit = -unit if mirrored else unit

    def polygon(self, points: Sequence[Point], paint: Paint) -> None:
        """Fills a polygon."""
        self._fill("polygon", self._pixels(points), paint)

    def rectangle(self, left: float, top: float, right: float, bottom: float, paint: Paint) -> None:
        """Fills a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], paint)

    def rounded(self, left: float, top: float, right: float, bottom: float, radius: float, paint: Paint) -> None:
        """Fills a rectangle with round corners."""
        self._fill("rounded_rectangle", self._box(left, top, right, bottom), paint, radius=radius * self.unit)

    def ellipse(self, x: float, y: float, x_radius: float, y_radius: float, paint: Paint) -> None:
        """Fills an ellipse around (x, y)."""
        self._fill("ellipse", self._box(x - x_radius, y - y_radius, x + x_radius, y + y_radius), paint)

    def limb(self, joints: Sequence[Point], radii: Sequence[float], paint: Paint) -> None:
        """Fills a tapering tube with round ends through `joints`, with the given radius at each joint."""
        for (x, y), radius in zip(joints, radii, strict=True):
            self.ellipse(x, y, radius, radius, paint)
        for ((x0, y0), (x1, y1)), (r0, r1) in zip(pairwise(joints), pairwise(radii), strict=True):
            length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
            across_x, across_y = (y1 - y0) / length, (x0 - x1) / length
            sides = ((x0, y0, r0), (x1, y1, r1), (x1, y1, -r1), (x0, y0, -r0))
            self.polygon([(x + across_x * radius, y + across_y * radius) for x, y, radius in sides], paint)

    def _fill(self, shape: str, pixels: list, paint: Paint, **options) -> None:
        """Fills a shape that is a method of Pillow's ImageDraw."""
        if isinstance(paint, Image.Image):
            mask = Image.new("L", self.layer.size)
            getattr(ImageDraw.Draw(mask), shape)(pixels, fill=255, **options)
            self.layer.paste(paint, mask=mask)
        else:
            getattr(ImageDraw.Draw(self.layer), shape)(pixels, fill=paint, **options)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [(self.origin[0] + x * self.x_unit, self.origin[1] + y * self.unit) for x, y in points]

    def _box(self, left: float, top: float, right: float, bottom: float) -> list[float]:
        (x0, y0), (x1, y1) = self._pixels([(left, top), (right, bottom)])
        return [min(x0, x1), y0, max(x0, x1), y1]


def shade(colour: Colour, light: float) -> Colour:
    """Returns a colour under another light: 0 gives black, 1 the colour itself, more than 1 a brighter one."""
    return tuple(min(255, round(channel * light)) for channel in colour)


def colours(text: str) -> list[Colour]:
    """Returns the colours of a text of hexadecimal RGB values.

    Example:
        >>> colours("ff0000 00ff80")
        [(255, 0, 0), (0, 255, 128)]
    """
    return [tuple(bytes.fromhex(word)) for word in text.split()]
