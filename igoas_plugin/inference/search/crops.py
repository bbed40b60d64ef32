"""Crops in a folder: which files are images, and which of them have changed."""

import functools
import os
import stat
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image, ImageFile

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.images import kinds


class Crop(NamedTuple):
    """File with the image of one person; another size or time means another image.

    Args:
        path: path below the folder of the gallery, with ``/`` between its parts.
        size: size in bytes.
        modified: time of the last change in nanoseconds since 1970.
    """

    path: str
    size: int
    modified: int


@dataclass
class Listing:
    """Content of a folder of crops.

    Args:
        crops: crops, sorted by folder and name.
        broken: {path of a file or folder that the system cannot read: reason}.
    """

    crops: list[Crop] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    def may_hold(self, path: str) -> bool:
        """Returns whether a file that was not found may still exist in a folder that cannot be read."""
        return any(path.startswith(f"{folder}/") for folder in self.broken)


@functools.cache
def suffixes() -> frozenset[str]:
    """Returns the endings, in lower case, of the image formats that the plugin opens."""
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in known if kind in kinds() and has_decoder(kind))


def has_decoder(kind: str) -> bool:
    """Returns whether Pillow decodes the pixels of a format; of some formats it only reads the header."""
    factory = Image.OPEN[kind][0]
    return kind != "MPEG" and not (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile))


def crops_in(folder: str) -> Listing:
    """Lists the images in a folder and in all folders below it, by their endings.

    Hidden files and folders and other endings are skipped. Links are followed, unless they lead to a folder that the
    link itself lies in.

    Raises:
        InputError: the folder cannot be read.
    """
    listing = Listing()
    try:
        add_crops(folder, "", {os.path.realpath(folder)}, listing)
    except OSError as error:
        raise InputError(f"cannot read the folder {os.path.abspath(folder)}: {error.strerror}") from None
    return listing


def add_crops(folder: str, prefix: str, around: set[str], listing: Listing) -> None:
    """Adds the images of one folder, and of the folders below it, to a listing.

    Args:
        folder: path of the folder.
        prefix: its path below the folder of the gallery, "" or with ``/`` at the end.
        around: real paths of this folder and of those that it lies in.
        listing: is extended.
    """
    with os.scandir(folder) as entries:
        entries = sorted(entries, key=lambda entry: entry.name)
    for entry in entries:
        path = prefix + entry.name
        if entry.name.startswith("."):
            continue
        try:
            status = entry.stat()
            if stat.S_ISDIR(status.st_mode):
                real = os.path.realpath(entry.path)
                if real not in around:
                    add_crops(entry.path, f"{path}/", around | {real}, listing)
            elif stat.S_ISREG(status.st_mode) and os.path.splitext(entry.name)[1].lower() in suffixes():
                listing.crops.append(Crop(path, status.st_size, status.st_mtime_ns))
        except OSError as error:  # a link to nothing, or no permission
            listing.broken[path] = error.strerror
