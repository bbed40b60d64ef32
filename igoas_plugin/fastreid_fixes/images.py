"""Reading of images of every mode as RGB."""

import contextlib
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

original_read_image = data_utils.read_image


@functools.cache
def kinds() -> list[str]:
    """Returns the names of Pillow's image formats except EPS, which is a program that Ghostscript would run."""
    Image.init()
    return [kind for kind in Image.OPEN if kind != "EPS"]


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts an image to three channels; alpha is dropped, 16-bit grey is scaled to 8 bits, RGB is unchanged."""
    if image.mode.startswith("I"):  # I;16 and I: Pillow would clip them at 255
        grey = np.array(image)
        grey //= 257  # in place, so that a large image is in memory once
        image = Image.fromarray(grey.clip(0, 255, out=grey).astype(np.uint8))
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # Pillow warns about a direct conversion
    return image.convert("RGB")


def read_image(file_name, format=None):
    """Replaces fast-reid's function of this name.

    Args:
        file_name: path that fast-reid's PathManager can open.
        format: a mode of Pillow, or "BGR": as in fast-reid. None: RGB, rotated by the EXIF orientation.

    Raises:
        UnreadableImage: the file is missing, empty, cut off, or no image.
    """
    try:
        if format is not None:
            return original_read_image(file_name, format)
        with PathManager.open(file_name, "rb") as file:
            return read_rgb(file)
    except Exception as error:  # Pillow raises KeyError, struct.error and others for broken files
        empty = os.path.isfile(file_name) and not os.path.getsize(file_name)
        raise UnreadableImage(f"{os.path.abspath(file_name)} cannot be read: {reason(error, empty)}") from error


def refuse_unreadable(title: str, content: bytes) -> None:
    """Raises UnreadableImage, with the title, if the content of a file is no whole image."""
    try:
        Image.open(io.BytesIO(content), formats=kinds()).load()
    except Exception as error:  # see read_image()
        raise UnreadableImage(f"{title} cannot be read: {reason(error, empty=not content)}") from error


def reason(error: Exception, empty: bool) -> str:
    """Returns in one line why an image cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if empty:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no image, or of a kind that is not opened"
    return " ".join(str(error).split()) or type(error).__name__


def read_rgb(file: BinaryIO) -> Image.Image:
    """Reads an image as RGB, rotated by its EXIF orientation."""
    return upright_rgb(Image.open(file, formats=kinds()))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Returns an image of any mode as RGB, rotated by its EXIF orientation; the image itself stays as it is."""
    with contextlib.suppress(Exception):  # as in fast-reid: broken EXIF data (Pillow #3973); broken pixels raise below
        image = ImageOps.exif_transpose(image)
    return to_rgb(image)


@fix
def read_every_image_as_rgb() -> None:
    """Images with alpha or in CMYK raise a RuntimeError in the model, and palette PNGs get wrong colours.

    Cause: fast-reid converts an image only to a format that the caller names, and its data set names none. Black-and-
    white, 16-bit, YCbCr and grey-with-alpha images fail too, or get wrong colours. The error of an unreadable file now
    names the file.
    """
    replace_everywhere(original_read_image, read_image)
