"""Drawn objects that stand in front of pedestrians: luggage, bins, bushes, bicycles, cars, posts, umbrellas, people."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import RandomState
from PIL import Image, ImageFilter
from torch import Tensor

from igoas_plugin.datasets.toy.pedestrian import VIEWS, Pose, draw_pedestrian, dress
from igoas_plugin.datasets.toy.pen import Colour, Pen, colours, shade

CELL = 128  # side of an object in memory, in pixels; a cell is square, whatever the shape of its object
BORDER = 2  # transparent pixels around an object in its cell
CANVAS = 4 * CELL  # side of the drawing, for smooth edges
VARIANTS = 4  # of each kind
SEED = 24
PAINTS = colours("a8322e 2f4f86 d8d4c8 3a3a40 8c9096 3f6b4c c79a3c 7a4f36 5a3a6a 22242a")
DARK, STEEL, CLEAR = (28, 28, 30), (140, 143, 148), (0, 0, 0, 0)


class Kind(NamedTuple):
    """Kind of object: how it is drawn and where it stands. Lengths are parts of the image's height."""

    draw: Callable[[Pen, Colour, RandomState], None]  # in a square of 100 units
    height: float  # as it is usually seen
    beside: float = 0.0  # probability that it comes in from a side; otherwise from below
    above: bool = False  # it hangs in from above
    floor: float = 0.5  # smallest scale of its height; to hide less, it stands partly outside of the image
    drop: float = 0.15  # largest part of it below the lower border, or above the upper one
    natural: bool = False  # keeps its hue
    weight: float = 1.0  # relative frequency


class Atlas(NamedTuple):
    """Pictures of N objects, with their kinds.

    Args:
        cells: shape (N, 4, CELL, CELL), uint8, red, green and blue times alpha, and alpha; the border is transparent.
        table: N rows of the numbers of Kind, and "ratio", the object's width / height times 2: an image of a pedestrian
            is twice as high as wide.
    """

    cells: Tensor
    table: np.ndarray


def suitcase(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a suitcase on wheels with its handle out."""
    pen.rounded(38, 0, 62, 40, 3, (70, 70, 74))
    pen.rounded(42, 4, 58, 40, 2, CLEAR)
    pen.rounded(22, 28, 78, 95, 6, paint)
    for rib in (31, 42, 53, 64):
        pen.rounded(rib, 33, rib + 4, 90, 2, shade(paint, 0.72))
    for wheel in (30, 70):
        pen.ellipse(wheel, 96, 4, 4, DARK)


def handbag(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a bag with two handles and a flap, or a paper bag."""
    pen.ellipse(50, 34, 23, 32, shade(paint, 0.6))
    pen.ellipse(50, 34, 18, 27, CLEAR)
    lean = rng.uniform(-2, 10)
    pen.polygon([(15 + lean, 36), (85 - lean, 36), (90, 96), (86, 99), (14, 99), (10, 96)], paint)
    pen.polygon([(15 + lean, 36), (85 - lean, 36), (86 - lean, 58), (14 + lean, 58)], shade(paint, 0.78))
    pen.rounded(45, 54, 55, 63, 2, (208, 176, 96))


def rucksack(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a backpack that stands on the ground."""
    pen.ellipse(50, 8, 9, 8, shade(paint, 0.6))
    pen.ellipse(50, 9, 5, 5, CLEAR)
    pen.rounded(18, 8, 82, 98, 20, paint)
    pen.rounded(26, 52, 74, 92, 8, shade(paint, 0.75))
    pen.rectangle(26, 60, 74, 62, shade(paint, 0.5))
    pen.rectangle(20, 36, 80, 38, shade(paint, 0.55))


def litter_bin(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a wheeled bin with its lid."""
    pen.polygon([(18, 14), (82, 14), (75, 97), (25, 97)], paint)
    for rib in (32, 47, 62):
        pen.rectangle(rib, 24, rib + 4, 90, shade(paint, 0.75))
    pen.rounded(12, 4, 88, 16, 4, shade(paint, 0.62))
    pen.rounded(38, 0, 62, 6, 2, shade(paint, 0.5))
    pen.ellipse(70, 94, 6, 6, DARK)


def bollard(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a post as high as the knee, with bands."""
    pen.rounded(39, 0, 61, 100, 9, paint)
    for band in (16, 34):
        pen.rectangle(39, band, 61, band + 8, (228, 226, 218))
    pen.rectangle(36, 93, 64, 100, shade(paint, 0.6))


def barrier(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws the striped boards of road works on two posts."""
    for post in (10, 84):
        pen.rectangle(post, 4, post + 6, 100, (96, 96, 98))
    for board in (8, 44):
        pen.rectangle(0, board, 100, board + 22, (232, 230, 224))
        for stripe in range(-10, 110, 24):
            pen.polygon([(stripe, board + 22), (stripe + 12, board + 22), (stripe + 22, board), (stripe + 10, board)],
                        paint)  # fmt: skip
    for side in (-12, 101):
        pen.rectangle(side, 0, side + 11, 100, CLEAR)


def bush(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a bush of many leaves, round above and broad below."""
    green = [(62, 96, 48), (84, 110, 58), (52, 84, 56), (104, 106, 56)][rng.randint(4)]
    pen.ellipse(50, 60, 40, 50, shade(green, 0.45))
    leaves(pen, rng, green, 260, lambda: spot(rng, 50, 58, 44, 52))
    pen.rectangle(0, 100, 100, 110, CLEAR)


def branch(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws twigs with leaves that hang in from above."""
    for end in rng.uniform(5, 95, 4):
        pen.limb([(50, 0), ((50 + end) / 2, 22), (end, 50 + rng.uniform(-8, 8))], [3, 2, 1], (78, 60, 44))
        leaves(pen, rng, (70, 104, 52), 16, lambda end=end: (end + 11 * rng.randn(), 42 + 9 * rng.randn()))
    leaves(pen, rng, (70, 104, 52), 60, lambda: spot(rng, 50, 12, 42, 16))


def leaves(pen: Pen, rng: RandomState, green: Colour, count: int, place: Callable[[], tuple[float, float]]) -> None:
    """Draws leaves from dark to light at random places."""
    for number in range(count):
        x, y = place()
        light = 0.5 + 0.75 * number / count + rng.uniform(-0.1, 0.1)
        pen.ellipse(x, y, rng.uniform(3, 6), rng.uniform(2.5, 5), shade(green, light))


def spot(rng: RandomState, x: float, y: float, half_width: float, half_height: float) -> tuple[float, float]:
    """Returns a random place inside an ellipse."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform() ** 0.5
    return x + half_width * distance * np.cos(angle), y + half_height * distance * np.sin(angle)


def bicycle(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a parked bicycle from its side, with a basket and a bag."""
    for wheel in (22, 78):
        pen.ellipse(wheel, 76, 21, 21, DARK)
        pen.ellipse(wheel, 76, 17, 17, (70, 72, 76, 70))
        for angle in np.arange(0, np.pi, np.pi / 6):
            x, y = 17 * np.cos(angle), 17 * np.sin(angle)
            pen.limb([(wheel - x, 76 - y), (wheel + x, 76 + y)], [0.6, 0.6], STEEL)
        pen.ellipse(wheel, 76, 3, 3, STEEL)
    for tube in ([(22, 76), (47, 78), (37, 48), (22, 76)], [(47, 78), (69, 48), (38, 50)], [(67, 40), (78, 76)]):
        pen.limb(tube, [2.1] * len(tube), paint)
    pen.limb([(37, 48), (35, 40)], [1.6, 1.6], STEEL)
    pen.rounded(26, 36, 46, 41, 2.4, DARK)
    pen.limb([(67, 42), (65, 33), (74, 31)], [1.8, 1.8, 2], DARK)
    pen.rounded(71, 36, 95, 54, 3, (122, 92, 60))
    pen.rounded(6, 50, 34, 72, 4, shade(paint, 0.55))
    pen.ellipse(47, 78, 5, 5, STEEL)


def car(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws the front of a car."""
    for wheel in (7, 79):
        pen.rounded(wheel, 70, wheel + 14, 92, 3, DARK)
    pen.polygon([(14, 44), (26, 12), (74, 12), (86, 44)], shade(paint, 0.9))
    pen.polygon([(20, 42), (29, 16), (71, 16), (80, 42)], (74, 92, 106))
    pen.polygon([(34, 42), (44, 16), (54, 16), (44, 42)], (126, 146, 158))
    for mirror in (8, 92):
        pen.ellipse(mirror, 40, 6, 4, shade(paint, 0.8))
    pen.rounded(3, 40, 97, 86, 9, paint)
    pen.rounded(30, 54, 70, 66, 3, DARK)
    for lamp in (16, 84):
        pen.ellipse(lamp, 57, 10, 6, (226, 226, 212))
        pen.ellipse(lamp, 57, 4, 3, (168, 172, 176))
    pen.rounded(3, 70, 97, 86, 5, shade(paint, 0.62))
    pen.rectangle(38, 72, 62, 79, (230, 230, 222))


def sign(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a road sign, round or square, on its post."""
    pen.rectangle(46.5, 0, 53.5, 100, STEEL)
    if rng.uniform() < 0.5:
        pen.ellipse(50, 15, 15, 15, (230, 230, 226))
        pen.ellipse(50, 15, 12.5, 12.5, paint)
        pen.rectangle(41, 12, 59, 18, (230, 230, 226))
    else:
        pen.rounded(36, 2, 64, 34, 2, (230, 230, 226))
        pen.rounded(37.5, 3.5, 62.5, 32.5, 2, paint)
        for line in (9, 17, 25):
            pen.rectangle(42, line, 58, line + 3, (230, 230, 226))


def pillar(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a lamp post with its broad foot, or the trunk of a tree."""
    if rng.uniform() < 0.5:
        pen.rectangle(45, 0, 55, 100, STEEL)
        pen.polygon([(44, 72), (56, 72), (60, 78), (60, 100), (40, 100), (40, 78)], shade(STEEL, 0.72))
        pen.rounded(43, 40, 57, 56, 1, paint)
    else:
        pen.polygon([(42, 0), (58, 0), (59, 82), (66, 100), (34, 100), (41, 82)], (92, 74, 58))
        for _ in range(60):
            x, y = rng.uniform(42, 58), rng.uniform(0, 94)
            pen.limb([(x, y), (x + rng.uniform(-1, 1), y + 8)], [0.7, 0.4], shade((92, 74, 58), rng.uniform(0.5, 1.3)))


def umbrella(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws an open umbrella, whose panels are in two colours."""
    other = PAINTS[rng.randint(len(PAINTS))] if rng.uniform() < 0.3 else shade(paint, 0.74)
    pen.ellipse(50, 48, 49, 46, paint)
    pen.ellipse(50, 48, 30, 46, other)
    pen.ellipse(50, 48, 11, 46, paint)
    for left, right in ((1, 20), (20, 39), (39, 61), (61, 80), (80, 99)):
        pen.ellipse((left + right) / 2, 49, (right - left) / 2, 6, CLEAR)
    pen.rectangle(0, 49, 100, 100, CLEAR)
    pen.limb([(50, 43), (50, 96), (54, 98), (57, 94)], [1.2] * 4, (62, 52, 46))


def passer_by(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a pedestrian who is dressed at random."""
    origin, unit = pen.origin, pen.unit
    pose = Pose(
        view=VIEWS[rng.randint(len(VIEWS))],
        mirrored=False,
        phase=rng.uniform(0, 6.28),
        stride=rng.uniform(0.2, 0.5),
        foot=(origin[0] + 50 * unit, origin[1] + 99 * unit),
        size=98 * unit,
    )
    pen.layer.paste(draw_pedestrian(pen.layer.size, dress(rng, rng), pose))


KINDS = {
    "suitcase": Kind(suitcase, 0.45),
    "handbag": Kind(handbag, 0.3),
    "rucksack": Kind(rucksack, 0.35),
    "litter bin": Kind(litter_bin, 0.5),
    "bollard": Kind(bollard, 0.5, weight=0.7),
    "barrier": Kind(barrier, 0.45),
    "bush": Kind(bush, 0.45, beside=0.3, natural=True, weight=1.5),
    "bicycle": Kind(bicycle, 0.55, beside=0.5, weight=1.5),
    "car": Kind(car, 0.6, beside=0.5, weight=1.5),
    "sign": Kind(sign, 1.1, floor=0.8, beside=1.0),
    "pillar": Kind(pillar, 1.3, floor=0.7, beside=1.0, natural=True),
    "umbrella": Kind(umbrella, 0.4, above=True, floor=0.6, drop=0.3, weight=0.5),
    "branch": Kind(branch, 0.35, above=True, natural=True, weight=0.4),
    "passer-by": Kind(passer_by, 1.05, floor=0.9, beside=0.7, drop=0.3, natural=True),
}
BODIES = Kind(None, 1.1, floor=0.9, beside=0.7, drop=0.3)  # place of a pedestrian who is cut out of another image
NUMBERS = ("height", "beside", "above", "floor", "drop", "natural", "weight")


@cache
def draw_atlas(names: tuple[str, ...] = tuple(KINDS)) -> Atlas:
    """Draws VARIANTS objects of each kind, always the same."""
    pictures, rows = [], []
    for name in names:
        kind, rng = KINDS[name], RandomState([SEED, *name.encode()])
        for _ in range(VARIANTS):
            canvas = Image.new("RGBA", (CANVAS, CANVAS))
            kind.draw(Pen(canvas, CANVAS / 104, (0.02 * CANVAS, 0.02 * CANVAS)), any_paint(rng), rng)
            drawn = canvas.crop(canvas.getbbox())
            pictures.append(finished(drawn, rng))
            rows.append((2 * drawn.width / drawn.height, *(getattr(kind, number) for number in NUMBERS)))
    table = np.array(rows, [(number, float) for number in ("ratio", *NUMBERS)])
    return Atlas(torch.stack(pictures), table)


@cache
def draw_bodies() -> Atlas:
    """Draws masks of a body in the middle of an image: their alpha covers where detectors frame a pedestrian."""
    masks = []
    for broad in (0.85, 1.0, 1.15):
        canvas = Image.new("RGBA", (CANVAS, CANVAS))
        pen = Pen(canvas, CANVAS / 100)  # the image's width has 100 units too, so that a head is an upright ellipse
        half = [(10, 17), (30, 21), (36, 34), (35, 52), (29, 60), (28, 80), (26, 100)]
        right, left = ([(50 + sign * x * broad, y) for x, y in half] for sign in (1, -1))
        pen.polygon([*right, *reversed(left)], DARK)
        pen.ellipse(50, 11.5, 16 * broad, 9, DARK)
        canvas = Image.merge("RGBA", [*canvas.split()[:3], canvas.getchannel("A").filter(ImageFilter.GaussianBlur(8))])
        masks.append(finished(canvas, RandomState(0)))
    rows = [(1.0, *(getattr(BODIES, number) for number in NUMBERS))] * len(masks)
    return Atlas(torch.stack(masks), np.array(rows, [(number, float) for number in ("ratio", *NUMBERS)]))


def any_paint(rng: RandomState) -> Colour:
    """Returns a random colour of man-made things."""
    return shade(PAINTS[rng.randint(len(PAINTS))], rng.uniform(0.8, 1.15))


def finished(drawn: Image.Image, rng: RandomState) -> Tensor:
    """Returns a drawing as a cell, with light from the left and a grain: shape (4, CELL, CELL), uint8."""
    side = CELL - 2 * BORDER
    pixels = np.asarray(drawn.convert("RGBa").resize((side, side), Image.Resampling.BOX), dtype=np.float32).copy()
    light = np.linspace(1.1, 0.75, side)[None, :, None] * (1 + 0.05 * rng.randn(side, side, 1))
    pixels[..., :3] = np.minimum(pixels[..., :3] * light, pixels[..., 3:])
    return torch.from_numpy(np.pad(pixels.astype(np.uint8), [(BORDER, BORDER)] * 2 + [(0, 0)])).permute(2, 0, 1)
