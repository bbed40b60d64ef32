"""Listing of images in fast-reid's own data sets."""

import os
import re
import sys
from types import SimpleNamespace

import fastreid.data.datasets

from igoas_plugin.fastreid_fixes.fix import fix

from .image_files import images_below

PACKAGE = fastreid.data.datasets.__name__


def images_like(pattern: str) -> list[str]:
    """Returns the images of a folder, sorted by name; [] if there is no such folder. Replaces glob.glob.

    Args:
        pattern: path that ends in ``*`` and a suffix. Images with every suffix of IMAGE_SUFFIXES are returned. Of two
            files that differ in the suffix alone, such as an image and its mask, only one is: that with the suffix of
            the pattern.

    Raises:
        InputError: the folder cannot be read.
    """
    folder, name = os.path.split(pattern)
    suffix, chosen = os.path.splitext(name)[1], {}
    for path in images_below(folder) if os.path.isdir(folder) else ():
        stem = os.path.splitext(path)[0]
        if stem not in chosen or path.endswith(suffix):
            chosen[stem] = path
    return list(chosen.values())


class NamePattern:
    """Regular expression that is searched in the file name of a path, and not in its folders."""

    def __init__(self, pattern: str):
        self.pattern = re.compile(pattern)

    def search(self, path: str) -> re.Match | None:
        """Returns the first match in the file name, None without one."""
        return self.pattern.search(os.path.basename(path))


@fix
def list_images_of_any_suffix_in_any_folder() -> None:
    """A data set below a folder such as ``data[1]`` has no images, nor has one of ``.JPG`` or ``.png`` files.

    Cause: the classes of fast-reid's data sets list a folder by ``glob(f"{folder}/*.jpg")``, in which brackets are a
    pattern. The order was that of the file system. Four classes also search identity and camera in the whole path:
    below ``/data/run_2_c1/`` every image of Market1501 was of identity 2 and camera 1.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{PACKAGE}."):
            if hasattr(module, "glob"):
                module.glob = SimpleNamespace(glob=images_like) if hasattr(module.glob, "glob") else images_like
            if hasattr(module, "re"):
                module.re = SimpleNamespace(compile=NamePattern)
