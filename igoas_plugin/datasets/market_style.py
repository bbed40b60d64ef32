"""Folders of images in the style of Market-1501: the file name tells the identity and the camera."""

import os
import re

from ..errors import InputError

Item = tuple[str, int | str, int | str]

SUBSETS = ("bounding_box_train", "query", "bounding_box_test")  # the host's train, query and gallery
NAME = re.compile(r"(\d+)_c([1-9]\d*)_")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def list_images(folder: str, train_name: str | None = None) -> list[Item]:
    """The images of a folder as the host's data sets hold them, sorted by file name.

    Files that are no images by their suffix, and hidden ones, are passed over.

    Args:
        folder: holds files named like ``0001_c2_f0046182.jpg``: identity 1, camera 2.
        train_name: for a training set the data set's name, which makes identities and cameras unique among several
            training sets: ``<train_name>_1``. None gives numbers, as the host wants them of query and gallery.

    Returns:
        (path, identity, camera) of each image; cameras are counted from 0.

    Raises:
        InputError: the folder cannot be read, holds no image, or an image's name does not tell identity and camera.
    """
    try:
        names = sorted(
            name for name in os.listdir(folder) if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        )
    except OSError as error:
        raise InputError(f"cannot read the folder {os.path.abspath(folder)}: {error.strerror}") from None
    if not names:
        raise InputError(f"no images in {os.path.abspath(folder)}: put {', '.join(IMAGE_SUFFIXES)} files there")
    items = []
    for name in names:
        match = NAME.match(name)
        path = os.path.join(folder, name)
        if match is None:
            raise InputError(
                f"{os.path.abspath(path)}: the name does not begin with identity and camera as 0001_c2_f0046182.jpg "
                "does (cameras count from 1); rename the file or take it out of the folder"
            )
        identity, camera = int(match[1]), int(match[2]) - 1
        items.append(
            (path, identity, camera)
            if train_name is None
            else (path, f"{train_name}_{identity}", f"{train_name}_{camera}")
        )
    return items
