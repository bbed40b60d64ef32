"""The image files of a folder."""

import os
from collections.abc import Iterable

from ..errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def is_image(name: str) -> bool:
    """Whether a file is an image by its suffix, and not a hidden one as macOS leaves them (``._0001.jpg``)."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not os.path.basename(name).startswith(".")


def image_files(folder: str, nested: bool = False) -> list[str]:
    """Paths of the images in a folder, sorted by name: the order does not depend on the file system.

    Args:
        folder: hidden files and files that are no images by their suffix are passed over.
        nested: also those in the sub-folders, as of one folder an identity.

    Raises:
        InputError: the folder cannot be read, or holds no image.
    """
    try:
        paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        if nested:
            inner = [path for path in paths if os.path.isdir(path) and not os.path.basename(path).startswith(".")]
            paths += [os.path.join(path, name) for path in inner for name in sorted(os.listdir(path))]
    except OSError as error:
        raise InputError(
            f"cannot read the folder {os.path.abspath(error.filename or folder)}: {error.strerror}"
        ) from None
    paths = [path for path in paths if is_image(path)]
    if not paths:
        raise InputError(f"no images in {os.path.abspath(folder)}: put {', '.join(IMAGE_SUFFIXES)} files there")
    return paths


def refuse_twins(paths: Iterable[str], identities: Iterable[int]) -> None:
    """Raises InputError where two files of one identity differ in suffix or folder only, as a converted copy does."""
    first = {}
    for path, identity in zip(paths, identities, strict=True):
        stem = os.path.splitext(os.path.basename(path))[0].lower()
        twin = first.setdefault((identity, stem), path)
        if twin is not path:
            raise InputError(f"{os.path.abspath(twin)} and {os.path.abspath(path)} are one image twice: remove one")
