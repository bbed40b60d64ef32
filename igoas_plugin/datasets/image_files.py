"""Image files of a folder."""

import os
from collections.abc import Hashable, Iterable

from torchvision.datasets.folder import IMG_EXTENSIONS

from igoas_plugin.core.errors import InputError

IMAGE_SUFFIXES = (*IMG_EXTENSIONS, ".gif")  # in lower case


def is_image(name: str) -> bool:
    """Returns whether a file is an image by its suffix, and not a hidden file of macOS (``._0001.jpg``)."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not os.path.basename(name).startswith(".")


def image_files(folder: str, depth: int = 0) -> list[str]:
    """Returns the paths of images_below() a folder.

    Raises:
        InputError: a folder cannot be read, or holds no image.
    """
    paths = images_below(folder, depth)
    if not paths:
        raise InputError(f"no images in {os.path.abspath(folder)}: put {', '.join(IMAGE_SUFFIXES)} files there")
    return paths


def images_below(folder: str, depth: int = 0) -> list[str]:
    """Returns the paths of the images in a folder, sorted by name, so that they do not depend on the file system.

    Args:
        folder: path of the folder. Hidden files and folders are passed over.
        depth: number of levels of sub-folders that are searched too: 1 for one folder an identity.

    Raises:
        InputError: a folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            entries = sorted(entries, key=lambda entry: entry.name)
        inner = [entry.path for entry in entries if entry.is_dir()]
    except OSError as error:
        raise InputError(f"cannot read the folder {os.path.abspath(folder)}: {error.strerror}") from None
    paths = [entry.path for entry in entries if is_image(entry.name) and entry.path not in inner]
    for path in inner if depth else ():
        if not os.path.basename(path).startswith("."):
            paths += images_below(path, depth - 1)
    return paths


def refuse_twins(items: Iterable[tuple[str, Hashable, int]]) -> None:
    """Raises InputError if two files of one identity differ in suffix or folder only, as a converted copy does."""
    first = {}
    for path, identity, _ in items:
        stem = os.path.splitext(os.path.basename(path))[0].lower()
        twin = first.setdefault((identity, stem), path)
        if twin != path:
            raise InputError(f"{os.path.abspath(twin)} and {os.path.abspath(path)} are one image twice: remove one")
