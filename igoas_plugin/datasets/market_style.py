"""Folders of images in the style of Market-1501, whose file names tell identity and camera."""

import os
import re

from igoas_plugin.core.errors import InputError

from .image_files import image_files, refuse_twins

Item = tuple[str, int | str, int | str]  # path, identity, camera

SUBSETS = ("bounding_box_train", "query", "bounding_box_test")  # fast-reid's train, query and gallery
NAME = re.compile(r"(-1|\d+)_c0*([1-9]\d*)(?:s\d+)?_")  # s1: a sequence of Market-1501
JUNK = -1  # identity of parts of people and of false detections, which fast-reid leaves out too


def list_images(folder: str, train_name: str | None = None) -> list[Item]:
    """Returns the images of a folder as fast-reid's data sets hold them, sorted by file name.

    Args:
        folder: folder of files named like ``0001_c2_f0046182.jpg`` of DukeMTMC-reID or ``0001_c2s1_000451_03.jpg`` of
            Market-1501: identity 1, camera 2. Identity 0 are distractors: a gallery has them, and no query. Images of
            identity -1 are junk and left out. So are hidden files and files without the suffix of an image.
        train_name: name of a training set, which makes identities and cameras unique among several training sets:
            ``<train_name>_1``. None for query and gallery, of which fast-reid wants numbers.

    Returns:
        (path, identity, camera) of each image; cameras are counted from 0. A data set that uses this has
        `first_camera = 1`: see shown_camera().

    Raises:
        InputError: the folder cannot be read, holds no image but junk, holds one twice, or the name of an image does
            not tell identity and camera.
    """
    items = []
    for path in image_files(folder):
        match = NAME.match(os.path.basename(path))
        if match is None:
            raise InputError(
                f"{os.path.abspath(path)}: the name does not begin with identity and camera as 0001_c2_f0046182.jpg "
                "or 0001_c2s1_000451_03.jpg does (cameras count from 1); rename the file or take it out of the folder"
            )
        items.append((path, int(match[1]), int(match[2]) - 1))
    refuse_twins(items)
    items = [item for item in items if item[1] != JUNK]
    if not items:
        raise InputError(f"{os.path.abspath(folder)} holds images of identity -1 alone, which are left out as junk")
    return items if train_name is None else training_items(items, train_name)


def training_items(items: list[Item], name: str) -> list[Item]:
    """Returns the items with identities and cameras that carry the name of their training set."""
    return [(path, f"{name}_{identity}", f"{name}_{camera}") for path, identity, camera in items]
