"""Crops in a folder: which files are images, and which of them have changed."""

import os
from pathlib import Path
from typing import NamedTuple

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.image_files import is_image


class Crop(NamedTuple):
    """File with the image of one person; another size or time means another image."""

    path: str  # path below the folder of the gallery, with "/" between its parts
    size: int  # in bytes
    modified: int  # time of the last change in nanoseconds since 1970


def crops_in(folder: str) -> tuple[list[Crop], dict[str, str]]:
    """Lists the images in a folder and in all folders below it, by their suffixes.

    Hidden files and folders, and files without the suffix of an image, are skipped. Links are followed, unless they
    lead to a folder that the link itself lies in.

    Returns:
        The crops, sorted by path, and {path of an image or folder that the system cannot read: reason}.

    Raises:
        InputError: the folder itself cannot be read.
    """
    crops, broken = [], {}

    def note(error: OSError) -> None:
        if error.filename == folder:
            raise InputError(f"cannot read the folder {os.path.abspath(folder)}: {error.strerror}")
        broken[error.filename] = error.strerror

    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        around = {os.path.realpath(each) for each in (parent, *Path(parent).parents)}
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(parent, name)) not in around
        ]
        for name in names:
            if not is_image(name):
                continue
            path = os.path.join(parent, name)
            try:
                status = os.stat(path)
            except OSError as error:  # a link to nothing
                note(error)
            else:
                below = os.path.relpath(path, folder).replace(os.sep, "/")
                crops.append(Crop(below, status.st_size, status.st_mtime_ns))
    return sorted(crops), broken
