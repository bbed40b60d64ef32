"""Bases of the published data sets, which compare what is there with the published counts."""

import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from igoas_plugin.core.errors import InputError

from .image_files import image_files, refuse_twins
from .layout import Layout, plain
from .market_style import Item, training_items

logger = logging.getLogger(f"fastreid.{__name__}")  # child of fast-reid's logger, which shows its lines

NUMBER = re.compile(r"(\d+)(?![0-9A-Za-z])")  # start of a file name: 006_004.jpg, 12.jpg, 0005_c2_f0046985.jpg
INNER = re.compile(r"\D*(\d+)")  # folder of an identity: 001, p001
QUERY_CAMERA, GALLERY_CAMERA = 0, 1  # made up: an evaluation leaves out gallery images of the query's camera
SPLITS = ("train", "query", "gallery")  # fast-reid's names
BODIES_DEPTH = 2  # levels of folders below a part: that of an identity, and one around all of them
DRAWS = 10  # random draws of a protocol
PROTOCOL_OF: dict[str, str] = {}  # protocol of each registered draw: OccludedREIDHalfSplit of OccludedREIDHalfSplit3


class Counts(NamedTuple):
    """Published numbers of one split."""

    images: int | None  # None if the source gives it for the whole data set only
    identities: int
    cameras: int | None = None  # None if file names tell none: the plugin gives query and gallery one camera each


class PublishedDataset(ImageDataset):
    """Base of the registered data sets that were published as folders of images.

    A subclass has `dataset_name`, `layout`, `published` (the counts of its splits) and `read()`.

    Args:
        root: folder of the data sets. fast-reid passes the environment variable FASTREID_DATASETS.
        kwargs: arguments of fast-reid's ImageDataset.

    Raises:
        InputError: the data set is not in `root`, a folder of it is missing, or a file name cannot be read.
    """

    layout: Layout
    published: dict[str, Counts]

    def __init__(self, root: str = "datasets", **kwargs):
        self.dataset_dir, self.parts = self.layout.find(root, self.needed(), type(self).__name__)
        super().__init__(*(functools.partial(self._checked, split) for split in SPLITS), **kwargs)

    @classmethod
    def needed(cls) -> list[str]:
        """Returns the parts of the layout that the protocol needs."""
        return list(cls.layout.parts)

    def read(self, split: str) -> list[Item]:
        """Returns the images of a split, identities and cameras as numbers."""
        raise NotImplementedError

    def difference(self, split: str, items: list[Item]) -> str | None:
        """Returns what differs from the published counts, None if nothing does."""
        published, identities = self.published[split], Counter(identity for _, identity, _ in items)
        missing = self._missing(split, identities)
        if (len(items), len(identities)) == (published.images or len(items), published.identities) and not missing:
            return None
        used = (part for part in self.parts.values() if any(path.startswith(part + os.sep) for path, _, _ in items))
        names = sorted({os.path.relpath(part, self.dataset_dir) for part in used})
        images = published.images or "an unstated number"
        return (
            f"{split} ({', '.join(names) or 'nothing'} in {os.path.abspath(self.dataset_dir)}) has {len(items)} images "
            f"of {len(identities)} identities, published are {images} of {published.identities}{missing}"
        )

    def _checked(self, split: str) -> list[Item]:
        """Returns the images of a split as fast-reid takes them; warns if they differ from the published ones."""
        if split not in self.published:
            return []
        items = self.read(split)
        difference = self.difference(split, items)
        if items and difference:
            warn_once(f"{type(self).__name__}: {difference}: results do not compare with published ones")
        return training_items(items, self.dataset_name) if split == "train" else items

    def _missing(self, split: str, images: Counter) -> str:
        """Returns the names of what is missing, as the rest of a sentence; `images` counts those of each identity."""
        return ""


class BodyImages(PublishedDataset):
    """Base of the data sets for testing whose queries are one folder of bodies and whose gallery is another.

    A subclass has `query_part` and `gallery_part`, names of parts of its layout, besides what PublishedDataset needs.
    Where the number of images is published, the identities are 1, 2, 3, ... with equally many images each, and
    difference() names the incomplete ones.
    """

    query_part: str
    gallery_part: str
    first_camera = None  # made up

    @classmethod
    def needed(cls) -> list[str]:
        """Returns the parts of query and gallery."""
        return [cls.query_part, cls.gallery_part]

    def read(self, split: str) -> list[Item]:
        """Returns the images of query or gallery."""
        if split == "query":
            return list_bodies(self.parts[self.query_part], QUERY_CAMERA)
        return list_bodies(self.parts[self.gallery_part], GALLERY_CAMERA)

    def _identities(self, split: str) -> list[int]:
        return list(range(1, self.published[split].identities + 1))

    def _missing(self, split: str, images: Counter) -> str:
        if self.published[split].images is None:
            return ""
        identities = self._identities(split)
        each = self.published[split].images // len(identities)
        wrong = [number for number in sorted({*identities, *images}) if images[number] != each * (number in identities)]
        named = ", ".join(f"{number} ({images[number]})" for number in wrong[:3])
        return f"; identities without {each} images: {named}{' and others' if wrong[3:] else ''}" if wrong else ""


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
    items = [(path, identity_of(path, folder), camera) for path in image_files(folder, BODIES_DEPTH)]
    refuse_twins(items)
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


def register_variant(base: type[ImageDataset], suffix: str, doc: str, *, stem: str = "", **attributes) -> str:
    """Registers a subclass of a data set, with its docstring and class attributes.

    Returns:
        Its name: `stem`, or the name of `base` without one, and `suffix`.
    """
    name = f"{stem or base.__name__}{suffix}"
    own = {"__module__": base.__module__, "__doc__": doc, "dataset_name": name.lower()}
    DATASET_REGISTRY.register(type(name, (base,), own | attributes))
    return name


def register_draws(base: type[PublishedDataset], doc: str, attributes: Callable[[int], dict]) -> None:
    """Registers the random draws of a protocol as ``<base>0`` to ``<base>9``.

    Args:
        base: class of the protocol.
        doc: docstring of each draw, with ``{seed}`` in it.
        attributes: function that returns the class attributes of a seed.
    """
    for seed in range(DRAWS):
        name = register_variant(base, str(seed), doc.format(seed=seed), **attributes(seed))
        PROTOCOL_OF[name] = base.__name__


@functools.cache
def warn_once(message: str) -> None:
    """Logs a warning once a process: fast-reid builds a data set anew for every evaluation."""
    logger.warning(message)
