import base64
import io
from dataclasses import dataclass

from igoas_plugin.inference.predictor import Picture, opened

SIZE = (240, 240)  # pixels (width, height) that a thumbnail fits in: sharp where a page shows half of it
QUALITY = 85  # of the JPEG, of 100


@dataclass(frozen=True)
class Thumbnail:
    """A small picture within a page; the macro ``thumbnail`` of thumbnail.html shows it.

    Args:
        uri: the JPEG as a data URI.
        width, height: in pixels.
        alt: what is said in its place where it cannot be seen.
    """

    uri: str
    width: int
    height: int
    alt: str


def thumbnail(picture: Picture, alt: str, size: tuple[int, int] = SIZE) -> Thumbnail:
    """A picture, made smaller where it is larger than (width, height).

    Args:
        picture: path, or RGB array of shape (H, W, 3) and type uint8.
        alt: what it shows, in words.
        size: that it fits in, in pixels.

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
    uri = f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
    return Thumbnail(uri, image.width, image.height, alt)
