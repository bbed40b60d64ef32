"""Indexing of a folder of crops: a new gallery index, or an update of an existing one."""

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

from .crops import Crop, crops_in
from .gallery_file import Gallery, GalleryFile, write_gallery

logger = logging.getLogger(f"fastreid.{__name__}")  # below fast-reid's logger, so that it prints where that prints

BATCH = 64  # largest batch; Ctrl-C loses the batch in progress, seconds of work on a CPU
SAVE_SECONDS = 60  # least time between two saves
SAVE_SHARE = 0.05  # largest share of the time that saves may take; a large gallery is saved less often


class Counts(NamedTuple):
    """Number of crops of a folder by what happened to them."""

    added: int  # new in the index
    kept: int  # in the index before, and not changed
    dropped: int  # in the index before, and gone or changed; a changed one is added again
    unreadable: int

    def __str__(self) -> str:
        return (
            f"{self.added:,} added, {self.kept:,} already there, {self.dropped:,} gone or changed, "
            f"{self.unreadable:,} unreadable"
        )


class GrowingGallery:
    """Gallery whose descriptors are being computed, and its file.

    Args:
        path: path of the file.
        gallery: gallery with the crops whose descriptors exist; its list of crops is extended.
        descriptors: descriptors of these crops, shape (N, D).
        room: largest number of crops to come.
    """

    def __init__(self, path: str, gallery: Gallery, descriptors: np.ndarray, room: int):
        self.path, self.gallery = path, gallery
        self.rows = np.empty((len(descriptors) + room, descriptors.shape[1]), np.float32)
        self.rows[: len(descriptors)] = descriptors
        self.saved, self.pause = time.monotonic(), SAVE_SECONDS

    def add(self, crops: Sequence[Crop], descriptors: np.ndarray) -> None:
        """Adds crops, and saves the file if the last save is long enough ago."""
        start = len(self.gallery.crops)
        self.rows[start : start + len(crops)] = descriptors
        self.gallery.crops.extend(crops)
        if time.monotonic() - self.saved > self.pause:
            self.save()

    def save(self, index: SearchIndex | None = None) -> None:
        """Writes the file."""
        started = time.monotonic()
        write_gallery(self.path, self.gallery, self.rows[: len(self.gallery.crops)], index)
        self.saved = time.monotonic()
        self.pause = max(SAVE_SECONDS, (self.saved - started) / SAVE_SHARE)
        logger.info("%s images saved", f"{len(self.gallery.crops):,}")

    def finish(self) -> None:
        """Builds the index of all descriptors and writes the file. Raises as empty_index()."""
        gallery, rows = self.gallery, self.rows[: len(self.gallery.crops)]
        index = empty_index(gallery.kind, rows.shape[1], len(rows))
        logger.info("making the index of %s images: %s", f"{len(rows):,}", gallery.kind)
        index.add(rows)
        self.save(index)


def index_folder(folder: str, path: str, predictor: FeatureExtractor, kind: str | None = None) -> Counts:
    """Makes a gallery index of a folder of crops, or updates an existing one.

    Crops that are in the index and have the same path, size and time keep their descriptors. The file is saved every
    minute and on Ctrl-C, and the same call goes on from there. The faiss index is built from all descriptors at the
    end, so an updated index equals a new one.

    Args:
        folder: folder of the crops, which may have folders in it.
        path: path of the index.
        predictor: model that computes descriptors.
        kind: kind of the index; None keeps the kind of an existing index, and is flat for a new one.

    Raises:
        InputError: no image in the folder can be read; the index is damaged, or of another model or folder; or there
            are too few images for this kind.
        OutputError: the index cannot be written.
    """
    folder = os.path.abspath(folder)
    check_output_file(path)
    crops, broken = crops_in(folder)
    if not crops:
        raise InputError(f"no images in {folder}: name the folder that holds the crops, or one that holds it")
    known, descriptors, finished = read_known(path, folder, crops, predictor)
    references = predictor.references() if known.references is None else known.references
    gallery = Gallery(folder, kind or known.kind, known.fingerprint, [], references)
    empty_index(gallery.kind, predictor.width, len(crops))  # raises now what it would raise at the end

    there = set(crops)
    kept = [row for row, crop in enumerate(known.crops) if crop in there]
    gallery.crops.extend(known.crops[row] for row in kept)
    new = sorted(there - set(known.crops))
    growing = GrowingGallery(path, gallery, descriptors[kept], room=len(new))
    for name, reason in broken.items():
        logger.warning("%s cannot be read: %s", printable(name), reason)
    try:
        add_descriptors(new, growing, predictor)
        added = len(gallery.crops) - len(kept)
        counts = Counts(
            added,
            kept=len(kept),
            dropped=len(known.crops) - len(kept),
            unreadable=len(new) - added + len(broken),
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
    path: str, folder: str, crops: list[Crop], predictor: FeatureExtractor
) -> tuple[Gallery, np.ndarray, bool]:
    """Reads an existing index.

    Returns:
        Its gallery, its descriptors, and whether it is finished; an empty gallery if there is no file.

    Raises:
        InputError: the index is damaged, of another model, or of another folder.
    """
    if not os.path.lexists(path):
        return Gallery(folder, "flat", predictor.fingerprint, []), np.empty((0, predictor.width), np.float32), False
    with GalleryFile(path) as file:
        file.require(predictor)
        known = file.gallery
        moved = os.path.realpath(folder) != os.path.realpath(known.folder)
        if moved and set(known.crops).isdisjoint(crops):  # numbered crops of two folders share their names
            raise InputError(
                f"{path} is of the folder {known.folder}, and none of its images is in {folder}: give another --output"
            )
        return known, file.descriptors(), file.finished


def empty_index(kind: str, width: int, images: int) -> SearchIndex:
    """Makes an empty index; raises InputError if the kind needs more images or another width."""
    try:
        index = SearchIndex(width, kind, images)
    except ValueError as error:
        raise InputError(f"--kind {kind} cannot be taken for this model: {error}") from None
    if index.learns_from > images:
        raise InputError(
            f"--kind {kind} learns from {index.learns_from} images or more, and here are {images}: take --kind flat"
        )
    return index


def add_descriptors(crops: list[Crop], growing: GrowingGallery, predictor: FeatureExtractor) -> None:
    """Computes the descriptors of crops and adds them to a gallery; crops that cannot be read are logged."""
    with tqdm(total=len(crops), desc="describing", unit=" images", disable=None) as bar:
        for batch in read_batches(crops, growing.gallery.folder, predictor):
            if readable := [(crop, image) for crop, image in batch if image is not None]:
                added, images = zip(*readable, strict=True)
                growing.add(added, predictor.describe(torch.stack(images)))
            bar.update(len(batch))


def read_batches(
    crops: list[Crop], folder: str, predictor: FeatureExtractor
) -> Iterator[list[tuple[Crop, Tensor | None]]]:
    """Yields batches of crops, each with its image or None; threads read the next batch in the meantime."""

    def read(crop: Crop) -> tuple[Crop, Tensor | None]:
        try:
            return crop, predictor.read(os.path.join(folder, crop.path))
        except UnreadableImage as error:
            logger.warning("%s", error)
            return crop, None

    ahead, size = deque(), min(predictor.batch, BATCH)
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(0, len(crops), size):
            ahead.append([readers.submit(read, crop) for crop in crops[start : start + size]])
            if len(ahead) == 2:
                yield [each.result() for each in ahead.popleft()]
        for batch in ahead:
            yield [each.result() for each in batch]
