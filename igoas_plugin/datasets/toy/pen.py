"""A pen that draws in the units of a figure, wherever and however large the figure stands in the picture."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Paint = Colour | Image.Image
Point = tuple[float, float]


class Pen:
    """Draws opaque shapes on a layer; x to the right, y down.

    Args:
        layer: RGB or RGBA image that is drawn on.
        unit: pixels of the layer in one unit of the figure, > 0.
        origin: where (0, 0) of the figure lies, in pixels of the layer.
        mirrored: True draws the figure turned left to right about x = 0.
    """

    def __init__(self, layer: Image.Image, unit: float, origin: Point = (0.0, 0.0), mirrored: bool = False):
        self.layer = layer
        self.unit = unit
        self.origin = origin
        self.x_unit = -unit if mirrored else unit

    def polygon(self, points: Sequence[Point], paint: Paint) -> None:
        """Fills the polygon; `paint` is a colour or an image of the layer's size that shows inside the shape."""
        self._fill(paint, lambda draw, colour: draw.polygon(self._pixels(points), fill=colour))

    def rectangle(self, left: float, top: float, right: float, bottom: float, paint: Paint) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], paint)

    def rounded(self, left: float, top: float, right: float, bottom: float, radius: float, paint: Paint) -> None:
        """Fills a rectangle with round corners."""
        box, pixels = self._box(left, top, right, bottom), radius * self.unit
        self._fill(paint, lambda draw, colour: draw.rounded_rectangle(box, pixels, fill=colour))

    def ellipse(self, x: float, y: float, x_radius: float, y_radius: float, paint: Paint) -> None:
        box = self._box(x - x_radius, y - y_radius, x + x_radius, y + y_radius)
        self._fill(paint, lambda draw, colour: draw.ellipse(box, fill=colour))

    def limb(self, joints: Sequence[Point], radii: Sequence[float], paint: Paint) -> None:
        """Fills a tapering tube with round ends through `joints`, of the given radius at each."""
        self._fill(paint, lambda draw, colour: self._limb(draw, joints, radii, colour))

    def _limb(self, draw: ImageDraw.ImageDraw, joints: Sequence[Point], radii: Sequence[float], colour) -> None:
        for (x, y), radius in zip(joints, radii, strict=True):
            draw.ellipse(self._box(x - radius, y - radius, x + radius, y + radius), fill=colour)
        for ((x0, y0), (x1, y1)), (r0, r1) in zip(pairwise(joints), pairwise(radii), strict=True):
            length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
            across_x, across_y = (y1 - y0) / length, (x0 - x1) / length
            draw.polygon(
                self._pixels(
                    [
                        (x0 + across_x * r0, y0 + across_y * r0),
                        (x1 + across_x * r1, y1 + across_y * r1),
                        (x1 - across_x * r1, y1 - across_y * r1),
                        (x0 - across_x * r0, y0 - across_y * r0),
                    ]
                ),
                fill=colour,
            )

    def _fill(self, paint: Paint, shape: Callable) -> None:
        if isinstance(paint, Image.Image):
            mask = Image.new("L", self.layer.size)
            shape(ImageDraw.Draw(mask), 255)
            self.layer.paste(paint, mask=mask)
        else:
            shape(ImageDraw.Draw(self.layer), paint)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [(self.origin[0] + x * self.x_unit, self.origin[1] + y * self.unit) for x, y in points]

    def _box(self, left: float, top: float, right: float, bottom: float) -> list[float]:
        (x0, y0), (x1, y1) = self._pixels([(left, top), (right, bottom)])
        return [min(x0, x1), y0, max(x0, x1), y1]


def shade(colour: Colour, light: float) -> Colour:
    """The colour under another light: 0 is black, 1 the colour itself, above 1 brighter."""
    return tuple(min(255, round(channel * light)) for channel in colour)
