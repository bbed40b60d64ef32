"""Reading of images of every kind as RGB."""

import functools
import io
import os
from typing import BinaryIO

import numpy as np
from fastreid.data import data_utils
from fastreid.utils.file_io import PathManager
from PIL import Image, ImageOps, UnidentifiedImageError

from igoas_plugin.core.errors import UnreadableImage

from .fix import fix, replace_everywhere


@functools.cache
def kinds() -> list[str]:
    """The kinds of images that are opened: all that Pillow decodes itself.

    EPS is a program: Pillow hands it to Ghostscript, which runs it, and it need not end.
    """
    Image.init()
    return [kind for kind in Image.OPEN if kind != "EPS"]


read_image_of_host = data_utils.read_image


def to_rgb(image: Image.Image) -> Image.Image:
    """The image with three channels; alpha is dropped, 16-bit grey is scaled to 8 bits, RGB stays as it is."""
    if image.mode.startswith("I"):  # I;16 and I: Pillow would clip them at 255
        grey = np.array(image)
        grey //= 257  # in place: a large image exists once
        image = Image.fromarray(grey.clip(0, 255, out=grey).astype(np.uint8))
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # Pillow warns about a direct conversion
    return image.convert("RGB")


def read_image(file_name, format=None):
    """The host's function of this name; without a format the image always comes as RGB, turned as its EXIF data say.

    Args:
        file_name: path that the host's PathManager can open.
        format: a mode of Pillow, or "BGR": what the host does is left as it is.

    Raises:
        UnreadableImage: the file is missing, empty, cut off, or no image.
    """
    try:
        if not os.path.isfile(file_name) and os.path.exists(file_name):  # the read of a pipe would not end
            raise ValueError("it is no regular file")
        return read_image_of_host(file_name, format) if format is not None else read_rgb(file_name)
    except Exception as error:  # Pillow has no class of its own for broken files: some raise KeyError or struct.error
        empty = os.path.isfile(file_name) and not os.path.getsize(file_name)
        raise UnreadableImage(f"{os.path.abspath(file_name)} cannot be read: {reason(error, empty)}") from error


def refuse_unreadable(title: str, content: bytes) -> None:
    """Raises UnreadableImage, with the title, where the content of a file is no whole image."""
    try:
        with opened(io.BytesIO(content)) as image:
            image.load()
    except Exception as error:  # as in read_image()
        raise UnreadableImage(f"{title} cannot be read: {reason(error, empty=not content)}") from error


def reason(error: Exception, empty: bool) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if empty:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no image, or of a kind that is not opened"
    return " ".join(str(error).split()) or type(error).__name__


def opened(file: BinaryIO) -> Image.Image:
    """Pillow's image, not decoded yet; raises DecompressionBombError beyond PIL.Image.MAX_IMAGE_PIXELS.

    Pillow itself raises at twice that size, of which a decoder process would take gigabytes.
    """
    image = Image.open(file, formats=kinds())
    pixels, most = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if most is not None and pixels > most:
        raise Image.DecompressionBombError(
            f"it declares {image.width} x {image.height} pixels, PIL.Image.MAX_IMAGE_PIXELS is {most}: could be a "
            "decompression bomb"
        )
    return image


def read_rgb(file_name: str) -> Image.Image:
    with PathManager.open(file_name, "rb") as file:
        image = opened(file)
        try:
            image = ImageOps.exif_transpose(image)
        except Exception:  # as in the host: broken EXIF data (Pillow #3973); broken pixels raise below
            pass
        return to_rgb(image)


@fix
def read_every_image_as_rgb() -> None:
    """Images with alpha or CMYK come with 4 channels (RuntimeError in the model); palette PNGs become index grey.

    The host converts an image only where a format is asked for, and its data set asks for none. Black-and-white,
    16-bit, YCbCr and grey-with-alpha files failed or came in the wrong colours too. A file that cannot be read is
    named: of a truncated one the host's traceback does not tell which it is.
    """
    replace_everywhere(read_image_of_host, read_image)
