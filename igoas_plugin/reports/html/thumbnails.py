"""Pictures inside a page: small JPEGs of images, and figures as JPEG or SVG."""

import base64
import io
from typing import NamedTuple

from matplotlib.figure import Figure

from igoas_plugin.inference.predictor import Picture, opened
from igoas_plugin.reports.figures.figure_file import rendered

SIZE = (240, 240)  # pixels (width, height) that a thumbnail fits in: a page shows it at half that size
QUALITY = 75  # of a JPEG, of 100
CSS_PIXELS = 96  # pixels of a page in an inch


class Thumbnail(NamedTuple):
    """Picture inside a page; the macro ``thumbnail`` shows it.

    Args:
        uri: content of the picture as a data URI.
        width, height: size on the page, in pixels.
        alt: text for readers who cannot see it.
    """

    uri: str
    width: int
    height: int
    alt: str


def thumbnail(picture: Picture, alt: str, size: tuple[int, int] = SIZE) -> Thumbnail:
    """Returns a picture as a JPEG, made smaller if it is larger than (width, height).

    Args:
        picture: path, or RGB array of shape (H, W, 3) and type uint8.
        alt: text for readers who cannot see it.
        size: largest size, in pixels.

    Raises:
        InputError: the picture cannot be read.

    Example:
        >>> import numpy
        >>> small = thumbnail(numpy.zeros((480, 120, 3), numpy.uint8), alt="a black picture")
        >>> small.width, small.height, small.uri[:23]
        (60, 240, 'data:image/jpeg;base64,')
    """
    image = opened(picture)
    image.thumbnail(size)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    return Thumbnail(data_uri("jpeg", content.getvalue()), image.width, image.height, alt)


def svg(figure: Figure, alt: str) -> Thumbnail:
    """Returns a figure as an SVG."""
    width, height = (round(CSS_PIXELS * inches) for inches in figure.get_size_inches())
    return Thumbnail(data_uri("svg+xml", rendered(figure, "svg")), width, height, alt)


def data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
