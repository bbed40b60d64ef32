"""What the published data sets have in common: they are found, read, counted, and differences are named."""

import functools
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from .layout import Layout
from .market_style import Item, training_items

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are

SPLITS = ("train", "query", "gallery")  # as the host names them
DRAWS = 10  # of a protocol that papers repeat at random
PROTOCOL_OF: dict[str, str] = {}  # of each registered draw: OccludedREIDHalfSplit3 is one of OccludedREIDHalfSplit


@dataclass(frozen=True)
class Counts:
    """Published numbers of one split.

    Args:
        images: None where the source does not tell how many of the data set's images the split has.
        identities: how many.
        cameras: how many the names tell; None where they tell none, and the plugin gives query and gallery one each.
    """

    images: int | None
    identities: int
    cameras: int | None = None


class PublishedDataset(ImageDataset):
    """Base of the registered data sets that were published as folders of images.

    A subclass has `dataset_name`, `layout`, `published` (the counts of each split that it has) and `_read()`.

    Args:
        root: the folder that holds the data sets; the host passes the environment variable FASTREID_DATASETS.
        kwargs: of the host's ImageDataset.

    Raises:
        InputError: the data set is not in `root`, a folder of it is missing, or a file name cannot be read.
    """

    layout: Layout
    published: dict[str, Counts]

    def __init__(self, root: str = "datasets", **kwargs):
        self.dataset_dir, self.parts = self.layout.find(root, self.needed())
        super().__init__(*(functools.partial(self._checked, split) for split in SPLITS), **kwargs)

    @classmethod
    def needed(cls) -> list[str]:
        """Parts of the layout without which the protocol cannot be read."""
        return list(cls.layout.parts)

    def _read(self, split: str) -> list[Item]:
        """The images of a split, identities and cameras as numbers."""
        raise NotImplementedError

    def _checked(self, split: str) -> list[Item]:
        if split not in self.published:
            return []
        items = self._read(split)
        wrong = self._difference(split, items)
        if items and wrong:
            warn_once(f"{type(self).__name__}: {wrong}: results do not compare with published ones")
        return training_items(items, self.dataset_name) if split == "train" else items

    def _difference(self, split: str, items: list[Item]) -> str | None:
        """What differs from the published counts, or None."""
        published, identities = self.published[split], Counter(identity for _, identity, _ in items)
        missing = self._missing(split, identities)
        if (len(items), len(identities)) == (published.images or len(items), published.identities) and not missing:
            return None
        names = sorted({os.path.relpath(self._part_of(path), self.dataset_dir) for path, _, _ in items})
        images = published.images or "an unstated number"
        return (
            f"{split} ({', '.join(names) or 'nothing'} in {os.path.abspath(self.dataset_dir)}) has {len(items)} images "
            f"of {len(identities)} identities, published are {images} of {published.identities}{missing}"
        )

    def _part_of(self, path: str) -> str:
        return max((part for part in self.parts.values() if path.startswith(part + os.sep)), key=len)

    def _missing(self, split: str, images: Counter) -> str:
        """What is missing by name, as the rest of a sentence; `images`: how many there are of each identity."""
        return ""


class Numbered:
    """Mixin for data sets with identities 1, 2, 3, ... and equally many images of each: it names what is missing."""

    def _identities(self, split: str) -> list[int]:
        return list(range(1, self.published[split].identities + 1))

    def _missing(self, split: str, images: Counter) -> str:
        identities = self._identities(split)
        each = self.published[split].images // len(identities)
        wrong = [number for number in sorted({*identities, *images}) if images[number] != each * (number in identities)]
        named = ", ".join(f"{number} ({images[number]})" for number in wrong[:3])
        return f"; identities without {each} images: {named}{' and others' if wrong[3:] else ''}" if wrong else ""


def register_draws(base: type[PublishedDataset], doc: str, attributes: Callable[[int], dict]) -> None:
    """Registers the DRAWS random draws of a protocol as ``<base>0``, ``<base>1``, ...

    Args:
        base: the protocol.
        doc: docstring of each, with ``{seed}`` in it.
        attributes: what the class of a seed has.
    """
    for seed in range(DRAWS):
        name = f"{base.__name__}{seed}"
        own = {"__module__": base.__module__, "__doc__": doc.format(seed=seed), "dataset_name": name.lower()}
        DATASET_REGISTRY.register(type(name, (base,), {**own, **attributes(seed)}))
        PROTOCOL_OF[name] = base.__name__


@functools.cache
def warn_once(message: str) -> None:
    """The host builds a data set anew for every evaluation: the same line is not repeated."""
    logger.warning(message)
