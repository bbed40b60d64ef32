import functools
import os
import stat
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image, ImageFile

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.images import kinds


class Crop(NamedTuple):
    """A file of one person's image; another size or time tells that it is another image.

    Args:
        path: below the folder of all, with ``/`` between.
        size: in bytes.
        modified: in nanoseconds since 1970.
    """

    path: str
    size: int
    modified: int


@dataclass
class Listing:
    """What lies in a folder of crops.

    Args:
        crops: sorted by folder and name.
        broken: {path of a file or folder that cannot be looked at: the reason}.
    """

    crops: list[Crop] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    def may_hold(self, path: str) -> bool:
        """Whether a file that was not found may be there nevertheless: in a folder that cannot be looked into."""
        return any(path.startswith(f"{folder}/") for folder in self.broken)


@functools.cache
def suffixes() -> frozenset[str]:
    """Endings, in small letters, of the kinds of images that are opened here."""
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in known if kind in kinds() and has_pixels(kind))


def has_pixels(kind: str) -> bool:
    """Whether Pillow decodes this kind: of some it knows no more than the header."""
    factory = Image.OPEN[kind][0]
    return kind != "MPEG" and not (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile))


def crops_in(folder: str) -> Listing:
    """The images in a folder and in all folders below it, of every kind that Pillow opens, by their endings.

    Hidden files and folders, and files of other endings, are passed over. Links are followed, but not to a folder that
    the link itself lies in.

    Raises:
        InputError: the folder cannot be read.
    """
    listing = Listing()
    try:
        look_into(folder, "", {os.path.realpath(folder)}, listing)
    except OSError as error:
        raise InputError(f"cannot read the folder {os.path.abspath(folder)}: {error.strerror}") from None
    return listing


def look_into(folder: str, prefix: str, around: set[str], listing: Listing) -> None:
    """Adds to the listing what lies in ``folder``, whose path below the first one is ``prefix``.

    Args:
        around: real paths of this folder and of those that it lies in.
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
                    look_into(entry.path, f"{path}/", around | {real}, listing)
            elif stat.S_ISREG(status.st_mode) and os.path.splitext(entry.name)[1].lower() in suffixes():
                listing.crops.append(Crop(path, status.st_size, status.st_mtime_ns))
        except OSError as error:  # a link to nothing, or no permission
            listing.broken[path] = error.strerror
