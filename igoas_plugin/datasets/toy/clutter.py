"""Clutter between a camera and a pedestrian: cars, bins, bushes, boxes, poles, umbrellas, barriers, passers-by."""

from numpy.random import RandomState
from PIL import Image

from .pedestrian import VIEWS, Pose, draw_pedestrian, dress
from .pen import Colour, Pen, colours, shade

PAINTS = colours("b02a2c 305496 e2e2e0 34343a 969ca0 3c7454 d6a43c be783c")


def draw_clutter(size: tuple[int, int], rng: RandomState) -> Image.Image:
    """Draws a random object alone on an RGBA layer of `size`; its alpha channel is its shape (0 or 255)."""
    layer = Image.new("RGBA", size)
    kind = CLUTTER[rng.randint(len(CLUTTER))]
    paint = shade(PAINTS[rng.randint(len(PAINTS))], rng.uniform(0.8, 1.1))
    kind(Pen(layer, size[1] / 128), paint, rng)
    return layer


def _car(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws the side of a parked car, longer than the picture is wide."""
    x, top = rng.uniform(-46, 10), rng.uniform(62, 82)
    pen.rounded(x - 30, top + 15, x + 100, 122, 6, paint)
    pen.polygon([(x, top + 17), (x + 14, top), (x + 56, top), (x + 72, top + 17)], paint)
    pen.polygon([(x + 5, top + 16), (x + 16, top + 3), (x + 33, top + 3), (x + 33, top + 16)], (88, 108, 122))
    pen.polygon([(x + 37, top + 16), (x + 37, top + 3), (x + 54, top + 3), (x + 66, top + 16)], (76, 94, 108))
    pen.rectangle(x - 30, top + 27, x + 100, top + 28.5, shade(paint, 0.6))
    pen.rectangle(x + 34.5, top + 16, x + 35.5, 118, shade(paint, 0.6))
    pen.rectangle(x + 38, top + 21, x + 45, top + 23, shade(paint, 0.5))
    for wheel in (x - 8, x + 78):
        pen.ellipse(wheel, 117, 13, 13, (26, 26, 28))
        pen.ellipse(wheel, 117, 7, 7, (160, 162, 166))


def _bin(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a wheeled bin with its lid."""
    x, half, top = rng.uniform(14, 50), rng.uniform(13, 19), rng.uniform(60, 80)
    pen.polygon([(x - half, top), (x + half, top), (x + half * 0.82, 124), (x - half * 0.82, 124)], paint)
    for rib in (-0.5, 0.0, 0.5):
        pen.limb([(x + rib * half, top + 8), (x + rib * half * 0.85, 118)], [0.9, 0.9], shade(paint, 0.75))
    pen.rounded(x - half - 2, top - 5, x + half + 2, top + 3, 2, shade(paint, 0.6))
    pen.ellipse(x + half * 0.6, 122, 4, 4, (24, 24, 24))


def _bush(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a round bush of many leaves."""
    x, top, half = rng.uniform(8, 56), rng.uniform(56, 82), rng.uniform(16, 26)
    for layer, light in enumerate((0.6, 0.8, 1.0, 1.2)):
        for _ in range(26):
            leaf_x, leaf_y = x + half * rng.uniform(-1, 1) * (1 - 0.1 * layer), rng.uniform(top + 4, 126)
            pen.ellipse(leaf_x, leaf_y, rng.uniform(4, 7.5), rng.uniform(3.5, 6), shade((66, 104, 52), light))


def _boxes(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws cartons in a pile."""
    x, bottom = rng.uniform(16, 48), 125.0
    for _ in range(rng.randint(2, 4)):
        half, height, shift = rng.uniform(13, 20), rng.uniform(18, 27), rng.uniform(-4, 4)
        carton = shade((188, 148, 100), rng.uniform(0.8, 1.1))
        pen.rectangle(x + shift - half, bottom - height, x + shift + half, bottom, carton)
        pen.rectangle(x + shift - 2, bottom - height, x + shift + 2, bottom, shade(carton, 1.2))
        pen.rectangle(x + shift - half, bottom - height, x + shift + half, bottom - height + 1.2, shade(carton, 0.7))
        pen.rectangle(x + shift + half - 9, bottom - 8, x + shift + half - 4, bottom - 4, shade(carton, 0.6))
        bottom -= height


def _pole(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws a thick post with a road sign or a box on it."""
    x, half = rng.uniform(20, 44), rng.uniform(3.5, 6)
    pen.rectangle(x - half, 0, x + half, 126, (128, 130, 134))
    pen.rectangle(x + half * 0.4, 0, x + half, 126, (98, 100, 104))
    y = rng.uniform(26, 66)
    if rng.uniform() < 0.5:
        pen.ellipse(x, y, 15, 15, (232, 232, 230))
        pen.ellipse(x, y, 13, 13, paint)
        pen.rectangle(x - 8, y - 2.5, x + 8, y + 2.5, (232, 232, 230))
    else:
        pen.rounded(x - 13, y - 17, x + 13, y + 17, 2, paint)
        for line in (-9, -3, 3, 9):
            pen.rectangle(x - 9, y + line, x + 9, y + line + 2.4, shade(paint, 1.4 if sum(paint) < 400 else 0.6))


def _umbrella(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws an open umbrella, held low in front of the pedestrian."""
    x, top, half = rng.uniform(18, 46), rng.uniform(-4, 22), rng.uniform(25, 34)
    rim, second = top + half * 0.95, shade(paint, 0.72)
    pen.rectangle(x - 1, rim - 4, x + 1, rim + 34, (60, 50, 44))
    edge = [(0.6, top + half * 0.22), (1, rim), (0.62, rim - 5), (0.33, rim)]  # right half; x in shares of `half`
    right, left = ([(x + sign * share * half, y) for share, y in edge] for sign in (1, -1))
    pen.polygon([(x, top), *right, (x, rim - 5), *reversed(left)], paint)
    pen.polygon([(x, top), right[3], (x, rim - 5), left[3]], second)
    for sign, (shoulder, tip, _, _) in ((1, right), (-1, left)):
        pen.polygon([(x, top), shoulder, tip, (x + sign * half * 0.72, rim - 4)], second)


def _barrier(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws striped boards of road works on posts."""
    top, shift = rng.uniform(44, 78), rng.uniform(0, 16)
    for post in (6 + shift * 0.3, 54 + shift * 0.3):
        pen.rectangle(post, top - 4, post + 4, 126, (90, 90, 92))
    for board in (top, top + 24):
        pen.rectangle(-2, board, 66, board + 15, (236, 236, 232))
        for stripe in range(-32, 80, 16):
            left = stripe + shift
            pen.polygon([(left, board + 15), (left + 8, board + 15), (left + 16, board), (left + 8, board)], paint)


def _passer_by(pen: Pen, paint: Colour, rng: RandomState) -> None:
    """Draws another pedestrian, nearer to the camera and dressed at random."""
    unit = pen.unit
    pose = Pose(
        view=VIEWS[rng.randint(len(VIEWS))],
        mirrored=bool(rng.randint(2)),
        phase=rng.uniform(0, 6.28),
        stride=rng.uniform(0.2, 0.5),
        foot=(rng.uniform(12, 52) * unit, rng.uniform(132, 150) * unit),
        size=rng.uniform(124, 142) * unit,
    )
    pen.layer.paste(draw_pedestrian(pen.layer.size, dress(rng, rng), pose))


CLUTTER = (_car, _bin, _bush, _boxes, _pole, _umbrella, _barrier, _passer_by)
