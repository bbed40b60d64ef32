"""From a folder of crops to a gallery index, and from an older gallery index to that of the folder as it is now."""

import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from igoas_plugin.core.errors import InputError, UnreadableImage, printable
from igoas_plugin.core.files import check_output_file
from igoas_plugin.evaluation.ranking.neighbour_index import SearchIndex
from igoas_plugin.inference.predictor import READERS, FeatureExtractor

from .crops import Crop, Listing, crops_in
from .gallery_file import Gallery, GalleryFile, write_gallery

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are

BATCH = 64  # images at most that are described at once: those that a stop loses, on a CPU seconds of work
SAVE_SECONDS = 60  # between two saves
SAVE_SHARE = 0.05  # of the time, that saves take at most: those of a large gallery come less often


class Counts(NamedTuple):
    """What became of the crops of a folder.

    Args:
        added: described now.
        kept: described before, and the same since.
        dropped: described before, and gone or changed since; what is changed is described anew, so it is added too.
        unreadable: that cannot be read.
    """

    added: int
    kept: int
    dropped: int
    unreadable: int

    def __str__(self) -> str:
        return (
            f"{self.added:,} added, {self.kept:,} already there, {self.dropped:,} gone or changed, "
            f"{self.unreadable:,} unreadable"
        )


class GrowingGallery:
    """A gallery whose crops are being described, and its file.

    Args:
        path: of the file.
        gallery: with the crops that are described already.
        descriptors: of these, shape (N, D).
        room: how many may still come.
    """

    def __init__(self, path: str, gallery: Gallery, descriptors: np.ndarray, room: int):
        self.path, self.gallery = path, gallery
        self.rows = np.empty((len(descriptors) + room, descriptors.shape[1]), np.float32)
        self.rows[: len(descriptors)] = descriptors
        self.saved, self.pause = time.monotonic(), SAVE_SECONDS

    def add(self, crops: Sequence[Crop], descriptors: np.ndarray) -> None:
        """Adds crops, and saves where that is due."""
        start = len(self.gallery.crops)
        self.rows[start : start + len(crops)] = descriptors
        self.gallery.crops.extend(crops)
        if time.monotonic() - self.saved > self.pause:
            self.save()

    def save(self, index: SearchIndex | None = None) -> None:
        started = time.monotonic()
        write_gallery(self.path, self.gallery, self.rows[: len(self.gallery.crops)], index)
        self.saved = time.monotonic()
        self.pause = max(SAVE_SECONDS, (self.saved - started) / SAVE_SHARE)
        logger.info("%s images saved", f"{len(self.gallery.crops):,}")

    def finish(self) -> None:
        """Makes the index of what is there by now, and saves both.

        Raises:
            InputError: as empty_index().
        """
        gallery, rows = self.gallery, self.rows[: len(self.gallery.crops)]
        try:
            index = empty_index(gallery.kind, rows.shape[1], len(rows))
        except InputError:  # too many could not be read
            self.save()
            raise
        logger.info("making the index of %s images: %s", f"{len(rows):,}", gallery.kind)
        index.add(rows)
        self.save(index)


def index_folder(folder: str, path: str, predictor: FeatureExtractor, kind: str | None = None) -> Counts:
    """Makes a gallery index of a folder of crops, or brings one up to date.

    What is in the index and has not changed since, by path, size and time, is not described again. It is saved every
    minute, and where it is stopped by Ctrl-C; the same call goes on. The faiss index is made from all descriptors at
    the end: it is that of a folder that is indexed at once.

    Args:
        folder: of the crops; folders in it are looked into.
        path: of the index.
        predictor: describes the crops.
        kind: of the index; None: that of the index that is there, or else flat.

    Raises:
        InputError: no image in the folder can be read; the index is damaged, of another model or another folder, or
            cannot be written; or the images are too few for an index of this kind.
    """
    folder = os.path.abspath(folder)
    check_output_file(path)
    listing = crops_in(folder)
    if not listing.crops:
        raise InputError(f"no images in {folder}: name the folder that holds the crops, or one that holds it")
    known, descriptors, finished = read_known(path, folder, listing, predictor)
    gallery = Gallery(folder, kind or known.kind, predictor.fingerprint, crops=[])
    empty_index(gallery.kind, predictor.width, len(listing.crops))  # refuses now what it would refuse at the end

    there = set(listing.crops)
    kept = [row for row, crop in enumerate(known.crops) if crop in there or listing.may_hold(crop.path)]
    gallery.crops.extend(known.crops[row] for row in kept)
    new = sorted(there - set(known.crops))
    growing = GrowingGallery(path, gallery, descriptors[kept], room=len(new))
    for name, reason in listing.broken.items():
        logger.warning("%s cannot be read: %s", printable(os.path.join(folder, name)), reason)
    try:
        unreadable = describe(new, growing, predictor)
        counts = Counts(
            added=len(gallery.crops) - len(kept),
            kept=len(kept),
            dropped=len(known.crops) - len(kept),
            unreadable=unreadable + len(listing.broken),
        )
        if not gallery.crops:
            raise InputError(f"no image in {folder} can be read: nothing is written")
        same = finished and (gallery.folder, gallery.kind) == (known.folder, known.kind)
        if not same or counts.added or counts.dropped:
            growing.finish()
    except KeyboardInterrupt:
        if len(gallery.crops) > len(kept):
            growing.save()
        logger.info("stopped; the same command goes on")
        raise
    return counts


def read_known(
    path: str, folder: str, listing: Listing, predictor: FeatureExtractor
) -> tuple[Gallery, np.ndarray, bool]:
    """What an index holds already: the gallery, its descriptors, and whether it is finished.

    Raises:
        InputError: the index is damaged, of another model, or of another folder.
    """
    if not os.path.lexists(path):
        return Gallery(folder, "flat", predictor.fingerprint, []), np.empty((0, predictor.width), np.float32), False
    with GalleryFile(path) as file:
        file.require(predictor.fingerprint)
        known = file.gallery
        moved = os.path.realpath(folder) != os.path.realpath(known.folder)
        if moved and set(known.crops).isdisjoint(listing.crops):  # numbered crops of two folders have the same names
            raise InputError(
                f"{path} is of the folder {known.folder}, and none of its images is in {folder}: give another --output"
            )
        return known, file.descriptors(), file.finished


def empty_index(kind: str, width: int, images: int) -> SearchIndex:
    """An index for so many images; raises InputError where a kind is not for so few, or not for the width."""
    try:
        index = SearchIndex(width, kind, images)
    except ValueError as error:
        raise InputError(f"--kind {kind} cannot be taken for this model: {error}") from None
    if index.learns_from > images:
        raise InputError(
            f"--kind {kind} learns from {index.learns_from} images or more, and here are {images}: take --kind flat"
        )
    return index


def describe(crops: list[Crop], growing: GrowingGallery, predictor: FeatureExtractor) -> int:
    """Adds the descriptors of crops to a gallery; names those that cannot be read, and tells how many they are."""
    unreadable = 0
    with tqdm(total=len(crops), desc="describing", unit=" images", disable=None) as bar:
        for batch in read_ahead(crops, growing.gallery.folder, predictor):
            read = [(crop, image) for crop, image in batch if isinstance(image, Tensor)]
            for _, error in batch:
                if isinstance(error, UnreadableImage):
                    logger.warning("%s", error)
            if read:
                described, images = zip(*read, strict=True)
                growing.add(described, predictor.describe(torch.stack(images)))
            unreadable += len(batch) - len(read)
            bar.update(len(batch))
    return unreadable


def read_ahead(
    crops: list[Crop], folder: str, predictor: FeatureExtractor
) -> Iterator[list[tuple[Crop, Tensor | UnreadableImage]]]:
    """Crops, a batch at a time, each as the model takes it or with what is wrong; meanwhile the next batch is read."""

    def read(crop: Crop) -> tuple[Crop, Tensor | UnreadableImage]:
        try:
            return crop, predictor.read(os.path.join(folder, crop.path))
        except UnreadableImage as error:
            return crop, error

    ahead, size = deque(), min(predictor.batch, BATCH)
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(0, len(crops), size):
            ahead.append([readers.submit(read, crop) for crop in crops[start : start + size]])
            if len(ahead) == 2:
                yield [each.result() for each in ahead.popleft()]
        for batch in ahead:
            yield [each.result() for each in batch]
