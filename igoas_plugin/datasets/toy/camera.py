"""Four cartoon surveillance cameras, each with its own place, light and optics."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from PIL import Image, ImageFilter

from .pen import Pen, shade
from .scene_source import source

SCENE_WIDTH = 4  # a scene is this many pictures wide; each picture shows a part of it


@dataclass(frozen=True)
class Camera:
    """Camera with its place, light and optics."""

    scene: Callable[[Pen, float, float, RandomState], None]  # paints the place; width and height in the pen's units
    cast: tuple[float, float, float]  # factors of red, green and blue
    gamma: float  # exponent of the brightness; more than 1 is darker
    saturation: float  # 0 is grey, 1 as painted
    contrast: float  # slope about mid-grey
    blur: float  # standard deviation, in pixels of the picture
    noise: float  # standard deviation of the sensor's noise, as a share of full brightness
    tilt: float  # height of a body as seen from the camera, as a share of its true height

    def expose(self, picture: Image.Image, rng: RandomState) -> Image.Image:
        """Returns the picture as the camera's sensor gives it; light and cast vary a little from shot to shot."""
        width, height = picture.size
        picture = picture.filter(ImageFilter.GaussianBlur(self.blur * rng.uniform(0.8, 1.3)))
        light = np.asarray(picture, np.float32) / 255
        grey = light.mean(axis=2, keepdims=True)
        light = grey + (light - grey) * self.saturation * rng.uniform(0.85, 1.15)
        light = np.clip(0.5 + (light - 0.5) * self.contrast * rng.uniform(0.9, 1.1), 0, 1) ** self.gamma
        x, y = np.linspace(-1, 1, width)[None, :, None], np.linspace(-1, 1, height)[:, None, None]
        falloff = 1 + rng.uniform(-0.15, 0.15) * x + rng.uniform(-0.15, 0.15) * y
        cast = np.array(self.cast) * rng.uniform(0.95, 1.05, 3) * rng.uniform(0.85, 1.15)
        light = light * falloff * cast + rng.normal(0, self.noise, (height, width, 3))
        return Image.fromarray((np.clip(light, 0, 1) * 255).round().astype(np.uint8))


def background(camera: int, size: tuple[int, int], rng: RandomState) -> Image.Image:
    """Returns a part of the camera's scene, with another place and zoom for each picture.

    Args:
        camera: index into CAMERAS.
        size: width and height of the result, in pixels.
        rng: random source of place and zoom.
    """
    scene = _scene(camera, size)
    zoom = rng.uniform(0.8, 1.0)
    width, height = size[0] * zoom, size[1] * zoom
    left, top = rng.uniform(0, scene.width - width), rng.uniform(0, scene.height - height)
    return scene.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))


@functools.lru_cache
def _scene(camera: int, size: tuple[int, int]) -> Image.Image:
    scene = Image.new("RGB", (size[0] * SCENE_WIDTH, size[1]))
    unit = size[1] / 128
    CAMERAS[camera].scene(Pen(scene, unit), scene.width / unit, 128.0, source("scene", camera))
    return scene


def _street(pen: Pen, width: float, height: float, rng: RandomState) -> None:
    """Paints house fronts with windows and shutters, a pavement of slabs, the kerb."""
    pen.rectangle(0, 0, width, height, (150, 142, 138))
    x = 0.0
    while x < width:
        front = rng.uniform(34, 58)
        wall = ((172, 128, 108), (188, 178, 152), (140, 150, 158), (156, 108, 92))[rng.randint(4)]
        pen.rectangle(x, 0, x + front, 84, wall)
        for row in range(0, 84, 6):
            pen.rectangle(x, row, x + front, row + 0.7, shade(wall, 0.9))
        for window in np.arange(x + 5, x + front - 12, 17):
            pen.rectangle(window, 8, window + 10, 30, (72, 88, 104))
            pen.rectangle(window + 1, 9, window + 9, 18, (128, 150, 168))
            pen.rectangle(window - 1, 30, window + 11, 32, (206, 202, 194))
        pen.rectangle(x + 4, 44, x + front - 6, 82, shade(wall, 0.5))
        pen.rectangle(x + 4, 40, x + front - 6, 48, ((150, 40, 44), (40, 84, 70), (52, 62, 110))[rng.randint(3)])
        x += front
    pen.rectangle(0, 84, width, 114, (176, 172, 166))
    for slab in np.arange(0, width, 14):
        pen.polygon([(slab, 84), (slab + 0.8, 84), (slab - 7, 114), (slab - 8, 114)], (150, 146, 140))
    pen.rectangle(0, 98, width, 98.8, (150, 146, 140))
    pen.rectangle(0, 114, width, 118, (206, 204, 198))
    pen.rectangle(0, 118, width, height, (84, 84, 88))


def _park(pen: Pen, width: float, height: float, rng: RandomState) -> None:
    """Paints sky, trees, a lawn in patches of sun, a gravel path."""
    pen.rectangle(0, 0, width, 34, (176, 206, 226))
    pen.rectangle(0, 34, width, 64, (96, 118, 88))
    for _ in range(120):
        green = ((96, 122, 88), (110, 138, 94), (88, 110, 84), (128, 150, 104))[rng.randint(4)]
        pen.ellipse(rng.uniform(0, width), rng.uniform(8, 50), rng.uniform(6, 16), rng.uniform(6, 12), green)
    for trunk in np.arange(12, width, 37):
        pen.rectangle(trunk, 30, trunk + 5, 72, (92, 70, 50))
    pen.rectangle(0, 62, width, height, (138, 158, 112))
    for _ in range(160):
        y = rng.uniform(64, height)
        green = ((124, 146, 98), (152, 172, 122), (116, 136, 92))[rng.randint(3)]
        pen.ellipse(rng.uniform(0, width), y, rng.uniform(4, 14), rng.uniform(0.8, 2.5), green)
    pen.rectangle(0, 96, width, 120, (202, 184, 148))
    for _ in range(300):
        pen.ellipse(rng.uniform(0, width), rng.uniform(97, 119), 0.8, 0.5, (172, 154, 122))


def _hall(pen: Pen, width: float, height: float, rng: RandomState) -> None:
    """Paints a shopping hall: lit shop windows with goods, pillars, a chequered floor."""
    pen.rectangle(0, 0, width, 76, (198, 188, 168))
    pen.rectangle(0, 0, width, 8, (120, 104, 84))
    for shop in np.arange(4, width, 52):
        pen.rectangle(shop, 14, shop + 40, 74, (226, 214, 186))
        sign = ((60, 110, 150), (160, 60, 60), (80, 80, 84), (90, 140, 90))[rng.randint(4)]
        pen.rectangle(shop, 14, shop + 40, 23, sign)
        for _ in range(16):
            goods = tuple(int(value) for value in rng.randint(60, 230, 3))
            left, top = shop + rng.uniform(2, 32), (36, 50, 64)[rng.randint(3)]
            pen.rectangle(left, top, left + rng.uniform(3, 7), top + 9, goods)
        for shelf in (45, 59, 73):
            pen.rectangle(shop, shelf, shop + 40, shelf + 1.2, (140, 116, 84))
        pen.rectangle(shop + 42, 0, shop + 49, 80, (196, 182, 158))
        pen.rectangle(shop + 47, 0, shop + 49, 80, (166, 150, 126))
    pen.rectangle(0, 76, width, height, (212, 198, 174))
    for row, (top, bottom) in enumerate(((76, 83), (83, 92), (92, 104), (104, 118), (118, 136))):
        for column in np.arange(-20, width, 20):
            left = column + (10 if row % 2 else 0)
            pen.rectangle(left, top, left + 10, bottom, (168, 138, 112))


def _underpass(pen: Pen, width: float, height: float, rng: RandomState) -> None:
    """Paints concrete panels with daubs of paint, a strip of lamps, wet asphalt."""
    pen.rectangle(0, 0, width, 82, (140, 142, 142))
    for panel in np.arange(0, width, 30):
        pen.rectangle(panel, 0, panel + 30, 82, shade((140, 142, 142), rng.uniform(0.85, 1.1)))
        pen.rectangle(panel, 0, panel + 1.2, 82, (70, 74, 76))
    for lamp in np.arange(10, width, 44):
        pen.rectangle(lamp, 3, lamp + 20, 6, (236, 248, 240))
    for _ in range(26):
        paint = ((190, 60, 120), (70, 140, 190), (210, 190, 70), (60, 60, 66), (90, 170, 110))[rng.randint(5)]
        x, y = rng.uniform(0, width), rng.uniform(34, 70)
        joints = [(x, y), (x + rng.uniform(-8, 8), y + rng.uniform(-9, 9)), (x + 12, y + rng.uniform(-9, 9))]
        pen.limb(joints, [1.6, 1.6, 1.6], paint)
    pen.rectangle(0, 82, width, height, (112, 114, 116))
    for _ in range(60):
        grey = shade((116, 120, 124), rng.uniform(0.8, 1.2))
        pen.ellipse(rng.uniform(0, width), rng.uniform(86, height), rng.uniform(5, 16), rng.uniform(0.6, 2), grey)
    pen.rectangle(0, 104, width, 106, (196, 186, 92))


CAMERAS = (
    Camera(_street, cast=(0.96, 1.00, 1.05), gamma=1.0, saturation=0.95, contrast=1.0, blur=0.4, noise=0.015, tilt=1.0),
    Camera(_park, cast=(1.06, 1.03, 0.92), gamma=0.88, saturation=1.05, contrast=1.08, blur=0.3, noise=0.01, tilt=0.98),
    Camera(_hall, cast=(1.05, 0.97, 0.86), gamma=1.08, saturation=0.9, contrast=0.95, blur=0.7, noise=0.02, tilt=0.95),
    Camera(
        _underpass, cast=(0.82, 0.92, 0.92), gamma=1.08, saturation=0.8, contrast=0.92, blur=0.5, noise=0.035, tilt=0.97
    ),
)
