"""Folders of occluded, partial or whole bodies: the identity is in the name, a camera is not."""

import os
import re

from ..errors import InputError
from .image_files import image_files, refuse_twins
from .market_style import Item
from .published import PublishedDataset

NUMBER = re.compile(r"(\d+)(?![0-9A-Za-z])")  # at the beginning: 006_004.jpg, 12.jpg, 0005_c2_f0046985.jpg
QUERY_CAMERA, GALLERY_CAMERA = 0, 1  # made up: the evaluation leaves out gallery images of the query's own camera


def list_bodies(folder: str, camera: int) -> list[Item]:
    """The images of a folder as the host's data sets hold them, sorted by file name.

    Args:
        folder: holds images, or one folder of images an identity. The identity is the number that the file name
            begins with, or else the name of the identity's folder.
        camera: of all of them; other numbers in a name (an index, a camera that a script gave) are not read.

    Raises:
        InputError: the folder cannot be read, holds no image or one twice, or no number tells an image's identity, or
            two numbers contradict each other.
    """
    paths = image_files(folder, nested=True)
    items = [(path, identity_of(path, folder), camera) for path in paths]
    refuse_twins(paths, (identity for _, identity, _ in items))
    return items


def identity_of(path: str, folder: str) -> int:
    """The number of the identity; raises InputError where name and folder tell none, or two."""
    inner, name = os.path.split(os.path.relpath(path, folder))
    if inner.isdecimal() and os.path.splitext(name)[0].isdecimal():  # 001/02.jpg: an index in the identity's folder
        return int(inner)
    named = NUMBER.match(name)
    numbers = {int(number) for number in (named and named[1], inner) if number and number.isdecimal()}
    if len(numbers) == 1:
        return numbers.pop()
    wrong = "name and folder tell two identities" if numbers else "neither name nor folder begins with an identity"
    raise InputError(
        f"{os.path.abspath(path)}: {wrong}, as in 001_02.jpg or 001/02.jpg; rename the file or take it out"
    )


class BodyImages(PublishedDataset):
    """Base of the data sets for testing whose queries are one folder of bodies, and whose gallery is another one.

    A subclass has `query_part` and `gallery_part`, names of parts of its layout, beside what PublishedDataset asks for.
    """

    query_part: str
    gallery_part: str

    @classmethod
    def needed(cls) -> list[str]:
        return [cls.query_part, cls.gallery_part]

    def _read(self, split: str) -> list[Item]:
        if split == "query":
            return list_bodies(self.parts[self.query_part], QUERY_CAMERA)
        return list_bodies(self.parts[self.gallery_part], GALLERY_CAMERA)
