"""Folders of occluded, partial or whole bodies, whose file names tell the identity and no camera."""

import os
import re

from igoas_plugin.core.errors import InputError

from .image_files import image_files, refuse_twins
from .layout import plain
from .market_style import Item
from .published import PublishedDataset

NUMBER = re.compile(r"(\d+)(?![0-9A-Za-z])")  # start of a file name: 006_004.jpg, 12.jpg, 0005_c2_f0046985.jpg
INNER = re.compile(r"\D*(\d+)")  # folder of an identity: 001, p001
QUERY_CAMERA, GALLERY_CAMERA = 0, 1  # made up: an evaluation leaves out gallery images of the query's camera


def list_bodies(folder: str, camera: int) -> list[Item]:
    """Returns the images of a folder as fast-reid's data sets hold them, sorted by file name.

    Args:
        folder: folder of images, or of one folder of images an identity (``001``, ``p001``), also inside a second
            folder. The identity is the number at the start of the file name and in the name of the inner folder. A
            file name in an inner folder that is a number alone is an index.
        camera: camera of all images. Other numbers in a name (an index, a camera that a script gave) are not read.

    Raises:
        InputError: the folder cannot be read, holds no image or one twice, or an image has no identity or two.
    """
    paths = image_files(folder, depth=2)
    items = [(path, identity_of(path, folder), camera) for path in paths]
    refuse_twins(paths, (identity for _, identity, _ in items))
    return items


def identity_of(path: str, folder: str) -> int:
    """Returns the identity of an image; raises InputError if name and folder tell none, or two."""
    inner, name = os.path.split(os.path.relpath(path, folder))
    inner = os.path.basename(inner)
    numbered, named = INNER.fullmatch(inner), NUMBER.match(name)
    if numbered and os.path.splitext(name)[0].isdecimal():  # 001/02.jpg, p001/2.jpg: an index in the identity's folder
        return int(numbered[1])
    unnamed = plain(inner) in ("", plain(os.path.basename(folder)))  # no inner folder, or a second one of the same name
    numbers = {int(match[1]) for match in (numbered, named if numbered or unnamed else None) if match}
    if len(numbers) == 1:
        return numbers.pop()
    wrong = "name and folder tell two identities" if numbers else "neither name nor folder tells an identity"
    raise InputError(
        f"{os.path.abspath(path)}: {wrong}, as in 001_02.jpg or 001/02.jpg; rename the file or take it out"
    )


class BodyImages(PublishedDataset):
    """Base of the data sets for testing whose queries are one folder of bodies and whose gallery is another.

    A subclass has `query_part` and `gallery_part`, names of parts of its layout, besides what PublishedDataset needs.
    """

    query_part: str
    gallery_part: str

    @classmethod
    def needed(cls) -> list[str]:
        """Returns the parts of query and gallery."""
        return [cls.query_part, cls.gallery_part]

    def read(self, split: str) -> list[Item]:
        """Returns the images of query or gallery."""
        if split == "query":
            return list_bodies(self.parts[self.query_part], QUERY_CAMERA)
        return list_bodies(self.parts[self.gallery_part], GALLERY_CAMERA)
