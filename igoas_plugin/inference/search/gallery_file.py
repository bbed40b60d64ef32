"""Gallery index: one file with the descriptors of a folder of crops and everything that a search needs.

The file is a zip archive without compression of

    gallery.json     format, versions, kind, fingerprint, descriptors of the reference pictures, the folder, and path,
                     size and time of each crop
    descriptors.npy  (N, D) float32, rows of length 1, in the order of the crops
    index.faiss      faiss index of the descriptors, as faiss.read_index() reads it; missing until all are computed

One file can be replaced and copied as a whole, also while others read it. A zip archive has checksums, and a search
reads the index without the descriptors. The descriptors are kept because some kinds of index store less, cannot remove
a row, or are trained on all rows. Nothing in the file is executed.
"""

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from igoas_plugin.core.errors import InputError, PluginError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.core.version import __version__
from igoas_plugin.evaluation.ranking.neighbour_index import SearchIndex
from igoas_plugin.inference.fingerprint import Fingerprint
from igoas_plugin.inference.predictor import FeatureExtractor

from .crops import Crop

FORMAT, VERSION = "igoas_plugin gallery", 2
AGREEING = 0.02  # largest distance of two descriptors of a reference picture; no cosine changes by more
ABOUT, DESCRIPTORS, INDEX = "gallery.json", "descriptors.npy", "index.faiss"
# What zipfile, json, numpy and faiss raise for a damaged or foreign file; MemoryError: a header with an absurd shape;
# OverflowError: a number that no float32 can hold
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, KeyError, TypeError, ValueError),
    *(MemoryError, OverflowError),
)


@dataclass(frozen=True)
class Gallery:
    """Description of the crops whose descriptors an index holds."""

    folder: str  # absolute path of the crops
    kind: str  # one of igoas_plugin.evaluation.ranking.neighbour_index.KINDS
    fingerprint: Fingerprint  # of the model that computed the descriptors
    crops: list[Crop]  # in the order of the descriptors
    # descriptors of the reference pictures by the same model, shape (3, D); files of version 1 have none
    references: np.ndarray | None = field(default=None, compare=False)


class GalleryFile:
    """Gallery index that is open for reading.

    Args:
        path: path of the file.

    Attributes:
        gallery: description of the crops.
        finished: whether the file has its faiss index. Without it ``tools/search.py index`` was stopped or is running.

    Raises:
        InputError: the file is missing, damaged, of another format, or of a later version.
    """

    def __init__(self, path: str):
        self.path = path
        with self._damage_in_one_line():
            self.archive = zipfile.ZipFile(path)
            about = json.loads(self.archive.read(ABOUT))
            if about["format"] != FORMAT:
                raise ValueError(about["format"])
            if of_type(int, about["version"]) > VERSION:
                raise InputError(f"{path} was made by a later igoas_plugin, {about['igoas_plugin']}: update this one")
            self.gallery = Gallery(
                of_type(str, about["folder"]),
                of_type(str, about["kind"]),
                Fingerprint(**about["fingerprint"]),
                [
                    Crop(of_type(str, path), of_type(int, size), of_type(int, time))
                    for path, size, time in about["crops"]
                ],
                np.array(about["references"], np.float32) if about.get("references") is not None else None,
            )
            of_type(dict, self.gallery.fingerprint.settings)
            of_type(bool, self.gallery.fingerprint.altered)
            self.beside = of_type(str, about["beside"])
            self.finished = INDEX in self.archive.namelist()

    def __enter__(self) -> "GalleryFile":
        return self

    def __exit__(self, *_) -> None:
        self.archive.close()

    def require(self, predictor: FeatureExtractor) -> None:
        """Raises InputError, naming the differences, if another model than the predictor's computed the descriptors.

        The fingerprint of an ONNX file that is not as tools/export.py wrote it proves nothing: its descriptors of the
        reference pictures are compared as well.
        """
        own, other = self.gallery.fingerprint, predictor.fingerprint
        differences = own.differences(other)
        if not differences and (own.altered or other.altered):
            differences = self._other_references(predictor)
        if differences:
            raise InputError(
                f"{self.path} was made by another model than this one: {'; '.join(differences)}. Give the config and "
                "the weights that it was made with, or make another index"
            )

    def _other_references(self, predictor: FeatureExtractor) -> list[str]:
        """Returns in words how the predictor's descriptors of the reference pictures differ; [] if they agree."""
        altered = "an ONNX file was changed after its export, or is of igoas_plugin 0.1: export it again"
        ours, theirs = self.gallery.references, predictor.references()
        if ours is None or ours.shape != theirs.shape:
            return [altered, "the index has no descriptors of reference pictures to compare it by"]
        distance = np.linalg.norm(ours - theirs, axis=1).max()
        if distance <= AGREEING:  # false for NaN too
            return []
        return [altered, f"its descriptors of reference pictures are {distance:.2g} away, more than {AGREEING:g}"]

    def folder(self, moved_to: str | None = None) -> str:
        """Returns the folder of the crops.

        Args:
            moved_to: folder that holds the crops now. If None: the folder that was indexed; if that is gone, the
                folder that has the same relative path from the index file.

        Raises:
            InputError: `moved_to` is no folder.
        """
        if moved_to is not None and not os.path.isdir(moved_to):
            raise InputError(f"--folder {moved_to} is no folder: name the one that the indexed images are in now")
        beside = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(self.path)), self.beside))
        places = [moved_to] if moved_to else [self.gallery.folder, beside]
        return os.path.abspath(next((place for place in places if os.path.isdir(place)), self.gallery.folder))

    def descriptors(self) -> np.ndarray:
        """Reads the descriptors, shape (N, D), float32; raises InputError if they are damaged."""
        with self._damage_in_one_line(), self._verified(DESCRIPTORS) as member:
            descriptors = np.lib.format.read_array(member, allow_pickle=False)
            if descriptors.dtype != np.float32 or descriptors.ndim != 2 or len(descriptors) != len(self.gallery.crops):
                raise ValueError(descriptors.shape)
            return descriptors

    def index(self) -> SearchIndex:
        """Reads the index, or makes an exact one if the file is not finished; raises InputError if it is damaged."""
        if not self.finished:
            descriptors = self.descriptors()
            index = SearchIndex(descriptors.shape[1], "flat", len(descriptors))
            index.add(descriptors)
            return index
        with self._damage_in_one_line():
            with self._verified(INDEX) as member:
                index = SearchIndex.read(member, self.gallery.kind)
            if len(index) != len(self.gallery.crops):
                raise ValueError(len(index))
            return index

    def _verified(self, name: str) -> BinaryIO:
        """Opens a member after a first pass that compares its checksum, so that faiss never reads damaged bytes."""
        with self.archive.open(name) as member:
            while member.read(2**20):
                pass
        return self.archive.open(name)

    @contextmanager
    def _damage_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except PluginError:
            raise
        except FileNotFoundError:
            raise InputError(f"{self.path} does not exist: make it by tools/search.py index") from None
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror or error}") from None
        except DAMAGE as error:
            raise InputError(f"{self.path} is damaged, or no index of tools/search.py: make it anew") from error


def of_type(kind: type, value):
    """Returns the value; raises TypeError if it is not of this type."""
    if not isinstance(value, kind):
        raise TypeError(value)
    return value


def write_gallery(path: str, gallery: Gallery, descriptors: np.ndarray, index: SearchIndex | None = None) -> None:
    """Writes a gallery index, atomically.

    Args:
        path: path of the file; an earlier file is replaced.
        gallery: description of the crops.
        descriptors: shape (N, D), float32, in the order of gallery.crops.
        index: index of all descriptors, of gallery.kind; None if some are still to come.

    Raises:
        OutputError: the file cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    try:
        beside = os.path.relpath(gallery.folder, folder)
    except ValueError:  # on another drive of Windows
        beside = gallery.folder
    about = {
        "format": FORMAT,
        "version": VERSION,
        "igoas_plugin": __version__,
        "kind": gallery.kind,
        "folder": gallery.folder,
        "beside": beside,
        "fingerprint": json.loads(gallery.fingerprint.as_json()),
        "references": None if gallery.references is None else gallery.references.tolist(),
        "crops": gallery.crops,
    }

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(ABOUT, json.dumps(about), zipfile.ZIP_DEFLATED)
            with archive.open(DESCRIPTORS, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, descriptors, allow_pickle=False)
            if index is not None:
                with archive.open(INDEX, "w", force_zip64=True) as member:
                    index.write(member)

    write_atomically(path, write)
