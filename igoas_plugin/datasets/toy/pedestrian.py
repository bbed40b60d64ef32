"""Cartoon pedestrians: an identity is what one wears, a pose is how one walks and is seen."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from PIL import Image

from .pen import Colour, Pen, colours, shade

# Few colours for many pedestrians, so that a colour alone names nobody
TOP_COLOURS = colours("c4302e 2c4c9e 3a804a e8e2d6 2c2c32 e2b63e 86868c 783e7e")
PATTERN_COLOURS = colours("f0ece4 222228 de7828 56a4d0 c4302e")
BOTTOM_COLOURS = colours("262c4a 242428 707074 a88e68 583e2e 5c7ca4")
# Where a top shows its second colour, u units beside the middle of the body and v below the crown
PATTERNS = {
    "plain": None,
    "logo": None,
    "stripes": lambda u, v: v % 8 < 4,
    "bars": lambda u, v: (u + 2) % 8 < 4,
    "checks": lambda u, v: ((u + 3) % 12 < 6) ^ (v % 12 < 6),
    "block": lambda u, v: v < 31,
    "dots": lambda u, v: (u % 7 - 3.5) ** 2 + (v % 7 - 3.5) ** 2 < 4.2,
}
CHOICES = {  # what an identity draws, in this order
    "skin": colours("f4d0b1 e0ac80 bc825a 85583e 583a2c"),
    "hair": ("short", "long", "bun", "bald", "cap", "curly"),
    "hair_colour": colours("201a18 483020 785430 ceac68 963c22 a8a8a8"),
    "top": ("tee", "pullover", "jacket", "coat", "vest"),
    "pattern": tuple(PATTERNS),
    "bottom": ("trousers", "trousers", "shorts", "skirt", "long skirt"),
    "shoe_colour": colours("1e1c1c eaeae8 7a4a2c be282c"),
    "bag": ("none", "backpack", "shoulder bag", "handbag"),
    "bag_colour": colours("1e1e22 a46232 b0243a 286868 d6c43c"),
}
VIEWS = ("front", "back", "side")
BODY = 100.0  # units from the crown to the soles


@dataclass(frozen=True)
class Pedestrian:
    """Identity: body, hair, clothes and bag, the same in every picture."""

    height: float
    breadth: float
    skin: Colour
    hair: str
    hair_colour: Colour
    top: str
    top_colour: Colour
    pattern: str
    pattern_colour: Colour
    bottom: str
    bottom_colour: Colour
    shoe_colour: Colour
    bag: str
    bag_colour: Colour


@dataclass(frozen=True)
class Pose:
    """View and walk of a pedestrian in one picture."""

    view: str  # one of VIEWS
    mirrored: bool  # walks to the left in the side view; swaps left and right in the others
    phase: float  # of the walk, in radians
    stride: float  # half the angle between the thighs at its widest, in radians
    foot: tuple[float, float]  # place of the soles, in pixels of the layer
    size: float  # length of a body of height 1, in pixels of the layer


def dress(own: RandomState, shared: RandomState) -> Pedestrian:
    """Returns a random identity; `shared` gives the colours of top and bottom, `own` everything else."""
    top_colour, bottom_colour = _pick(shared, TOP_COLOURS), _pick(shared, BOTTOM_COLOURS)
    contrasting = [colour for colour in PATTERN_COLOURS if np.abs(np.subtract(colour, top_colour)).sum() > 150]
    pattern_colour = _pick(own, contrasting)
    return Pedestrian(
        height=own.uniform(0.9, 1.0),
        breadth=own.uniform(1.0, 1.3),
        top_colour=top_colour,
        pattern_colour=pattern_colour,
        bottom_colour=bottom_colour,
        **{what: _pick(own, choices) for what, choices in CHOICES.items()},
    )


def draw_pedestrian(size: tuple[int, int], who: Pedestrian, pose: Pose) -> Image.Image:
    """Draws the pedestrian alone on an RGBA layer of `size`; its alpha channel is the silhouette (0 or 255)."""
    layer = Image.new("RGBA", size)
    unit = pose.size * who.height / BODY
    pen = Pen(layer, unit, (pose.foot[0], pose.foot[1] - BODY * unit), pose.mirrored)
    _Figure(pen, who, pose).draw()
    return _rounded_by_light(layer, max(1, round(2.2 * unit)))


class _Figure:
    """Pedestrian under the pen, drawn from back to front."""

    def __init__(self, pen: Pen, who: Pedestrian, pose: Pose):
        self.pen, self.who, self.pose = pen, who, pose
        self.side = pose.view == "side"
        self.wide = who.breadth * (0.76 if self.side else 1.0)  # a body is less deep than broad
        self.swing = math.sin(pose.phase) * pose.stride
        self.cloth = _cloth(pen, who)
        self.dark_cloth = self.cloth.point(lambda value: value * 0.72)

    def draw(self) -> None:
        who, back = self.who, self.pose.view == "back"
        if who.bag == "backpack" and not back:
            self._backpack()
        self._arm(far=True)
        self._leg(far=True)
        self._leg(far=False)
        self._bottom()
        self._torso()
        if self.pose.view == "front" and who.hair == "long":
            self.pen.ellipse(0, 11, 8.2, 11.5, who.hair_colour)
        self._head()
        if who.bag == "backpack" and back:
            self._backpack()
        self._arm(far=False)
        if who.bag == "shoulder bag":
            self._shoulder_bag()

    def _leg(self, far: bool) -> None:
        who, hip_y, length = self.who, 50.0, 23.0
        angle = -self.swing if far else self.swing
        if self.side:
            bend = max(0.0, -math.sin(self.pose.phase + (math.pi if far else 0.0) + 0.9)) * 0.7
            hip = (0.0, hip_y)
            knee = (hip[0] + math.sin(angle) * length, hip_y + math.cos(angle) * length)
            ankle = (knee[0] + math.sin(angle - bend) * length, knee[1] + math.cos(angle - bend) * length)
            toe = (ankle[0] + 6.0, ankle[1] + 1.2)
        else:
            x = (-5.2 if far else 5.2) * self.wide
            lift = max(0.0, angle) * 9.0  # a leg that swings away from the camera looks shorter
            hip, knee = (x, hip_y), (x * 1.08, hip_y + length - 0.4 * lift)
            ankle = (x * 1.0, hip_y + 2 * length - lift)
            toe = (ankle[0] * 1.25, ankle[1] + 1.6)
        bare = who.bottom in ("shorts", "skirt", "long skirt")
        dim = 0.74 if far else 1.0
        colour = shade(who.skin if bare else who.bottom_colour, dim)
        thick = 0.75 * self.wide + 0.3 if self.side else self.wide
        self.pen.limb([hip, knee, ankle], [5.4 * thick, 4.2 * thick, 3.0 * thick], colour)
        if who.bottom == "shorts":
            self.pen.limb([hip, knee], [5.9 * thick, 5.2 * thick], shade(who.bottom_colour, dim))
        self.pen.limb([(ankle[0], ankle[1] + 1.4), toe], [2.9, 2.3], shade(who.shoe_colour, dim))

    def _bottom(self) -> None:
        who, wide = self.who, self.wide
        flare = abs(self.swing) * (16 if self.side else 3)
        if who.bottom in ("skirt", "long skirt"):
            hem, half = (68, 11.5) if who.bottom == "skirt" else (88, 12.5)
            half = half * wide + flare * (hem - 50) / 38
            self.pen.polygon([(-8 * wide, 46), (8 * wide, 46), (half, hem), (-half, hem)], who.bottom_colour)
        else:
            self.pen.limb([(-3.4 * wide, 49), (3.4 * wide, 49)], [5.6, 5.6], who.bottom_colour)

    def _torso(self) -> None:
        who, wide = self.who, self.wide
        hem = {"coat": 71.0, "jacket": 53.0}.get(who.top, 50.0)
        skirt = 12.0 if who.top == "coat" else 8.8
        shoulder = 10.0 if self.side else 11.8
        half = [(4, 15.4), (shoulder, 18.6), (10.2, 30), (8.4, 41), (skirt, hem)]
        right, left = ([(sign * x * wide, y) for x, y in half] for sign in (1, -1))
        self.pen.polygon([left[0], *right, *reversed(left[1:])], self.cloth)
        front = self.pose.view == "front"
        if front and who.top in ("jacket", "coat"):  # worn open, the shirt below shows
            self.pen.polygon([(-2.6, 15), (2.6, 15), (3.4, hem), (-0.6, hem)], who.pattern_colour)
        if who.top in ("jacket", "coat"):
            self.pen.rectangle(-4.6 * wide, 14.2, 4.6 * wide, 16.6, shade(who.top_colour, 0.7))
        if who.pattern == "logo" and not self.side:
            x, size = (4.2, 4.6) if front else (0, 6.2)
            self.pen.ellipse(x, 28, size, size, who.pattern_colour)
            self.pen.ellipse(x, 28, 0.5 * size, 0.5 * size, who.top_colour)

    def _arm(self, far: bool) -> None:
        who, wide = self.who, self.wide
        angle = self.swing if far else -self.swing  # arms swing against the legs
        if self.side:
            shoulder = (0.0, 20.5)
            elbow = (math.sin(angle) * 15, 20.5 + math.cos(angle) * 15)
            hand = (elbow[0] + math.sin(angle + 0.35) * 15, elbow[1] + math.cos(angle + 0.35) * 15)
        else:
            out = -1.0 if far else 1.0
            shoulder = (out * 11.0 * wide, 21.0)
            elbow = (out * (12.8 * wide + 1.2), 35.0)
            hand = (out * (12.6 * wide + 0.6), 49.0 - max(0.0, angle) * 8)
        cloth = self.dark_cloth if far and self.side else self.cloth
        skin = shade(who.skin, 0.78 if far and self.side else 1.0)
        self.pen.limb([shoulder, elbow, hand], [3.0, 2.7, 2.2], skin)
        self.pen.ellipse(*hand, 2.7, 2.9, skin)
        if who.top == "tee":
            half = ((shoulder[0] + elbow[0]) / 2, (shoulder[1] + elbow[1]) / 2 + 2)
            self.pen.limb([shoulder, half], [3.9, 3.9], cloth)
        elif who.top != "vest":
            wrist = (elbow[0] + 0.8 * (hand[0] - elbow[0]), elbow[1] + 0.8 * (hand[1] - elbow[1]))
            self.pen.limb([shoulder, elbow, wrist], [3.9, 3.5, 2.9], cloth)
        if who.bag == "handbag" and not far:
            self.pen.limb([hand, (hand[0], hand[1] + 5)], [0.8, 0.8], shade(who.bag_colour, 0.7))
            self.pen.rounded(hand[0] - 6.5, hand[1] + 4, hand[0] + 6.5, hand[1] + 15, 2, who.bag_colour)

    def _head(self) -> None:
        who, view, pen = self.who, self.pose.view, self.pen
        pen.limb([(0, 12), (0, 16)], [2.8, 3.0], shade(who.skin, 0.86))
        if who.hair == "long" and self.side:
            pen.limb([(-2.6, 7), (-2.6, 19)], [6.6, 5.0], who.hair_colour)
        if who.hair == "bun":
            pen.ellipse(*((-5.6, 3.6) if self.side else (0, 0.6)), 3.4, 3.2, who.hair_colour)
        pen.ellipse(0, 7.4, 5.8, 7.0, who.skin)
        if self.side:
            pen.ellipse(5.6, 8.4, 1.2, 1.3, who.skin)
        if who.hair == "curly":
            for x, y in ((-5, 4), (-3, 1), (0.5, 0.2), (3.6, 1.6), (5.2, 4.4), (-6, 7.6)):
                pen.ellipse(x, y, 3.0, 3.0, who.hair_colour)
        if view == "back" and who.hair != "bald":
            pen.limb([(0, 6.6), (0, 19 if who.hair == "long" else 7.0)], [6.4, 5.4], who.hair_colour)
        elif who.hair != "bald":
            crown = [(-6.1, 7.5), (-5.6, 3), (-3, 0.2), (0, -0.5), (3.2, 0.3), (5.7, 3)]
            fringe = [(5.4, 4.6), (-1.5, 4.4), (-3.6, 8)]
            pen.polygon([*crown, *fringe, *[(-6.0, 11)] * self.side], who.hair_colour)
        if who.hair == "cap":
            pen.polygon([(-6.4, 4.6), (-5.4, 0.4), (0, -1.8), (5.4, 0.4), (6.4, 4.6)], who.bag_colour)
            if view != "back":
                peak = [(5, 4.6), (10, 5)] if self.side else [(0, 4.6), (3, 5)]
                pen.limb(peak, [1.3, 1.0], shade(who.bag_colour, 0.7))
        if view == "front":
            for x in (-2.2, 2.2):
                pen.ellipse(x, 7.2, 0.8, 0.9, (30, 24, 24))

    def _backpack(self) -> None:
        colour, dark, rear = self.who.bag_colour, shade(self.who.bag_colour, 0.68), -9.4 * self.wide
        if self.pose.view == "back":
            self.pen.rounded(-8.2, 18.5, 8.2, 42, 3.5, colour)
            self.pen.rounded(-5.8, 30, 5.8, 39.5, 2, dark)
        elif self.side:
            self.pen.rounded(rear - 8.5, 19, -3, 41, 4, colour)
            self.pen.rounded(rear - 10.5, 29, rear - 4, 40, 2, dark)
        else:
            self.pen.rounded(-11.5, 17, 11.5, 40, 4, dark)

    def _shoulder_bag(self) -> None:
        colour, dark = self.who.bag_colour, shade(self.who.bag_colour, 0.68)
        if self.side:
            self.pen.limb([(-1, 18), (0, 44)], [0.9, 0.9], dark)
            self.pen.rounded(-7.5, 43, 8, 55, 2, colour)
        else:
            self.pen.limb([(8.5 * self.wide, 18), (-9 * self.wide, 46)], [1.0, 1.0], dark)
            self.pen.rounded(-9 * self.wide - 6.5, 44, -9 * self.wide + 6.5, 56, 2, colour)


def _cloth(pen: Pen, who: Pedestrian) -> Image.Image:
    """Returns the pattern of the top over the whole layer, fixed to the body."""
    width, height = pen.layer.size
    u = np.abs(np.arange(width) - pen.origin[0])[None, :] / pen.unit
    v = (np.arange(height) - pen.origin[1])[:, None] / pen.unit
    shows_second = PATTERNS[who.pattern]
    if shows_second is None:
        return Image.new("RGB", pen.layer.size, who.top_colour)
    second = np.broadcast_to(shows_second(u, v), (height, width))
    return Image.fromarray(np.where(second[..., None], who.pattern_colour, who.top_colour).astype(np.uint8))


def _rounded_by_light(layer: Image.Image, reach: int) -> Image.Image:
    """Darkens the edge that turns away from the light (upper left), so that bodies look round."""
    pixels = np.array(layer)
    alpha = pixels[..., 3]
    lit = np.zeros_like(alpha)
    lit[:, :-reach] = alpha[:, reach:]
    pixels[..., :3] = np.where((lit == 0)[..., None], pixels[..., :3] * 0.78, pixels[..., :3]).astype(np.uint8)
    return Image.fromarray(pixels)


def _pick(rng: RandomState, choices):
    return choices[rng.randint(len(choices))]
