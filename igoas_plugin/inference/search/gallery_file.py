"""A gallery index: one file that holds the descriptors of a folder of crops and all that a search needs.

It is a zip archive without compression of

    gallery.json     format, versions, kind, fingerprint, the folder, and path, size and time of each crop
    descriptors.npy  (N, D) float32, rows of length 1, in the order of the crops
    index.faiss      the faiss index of the descriptors, as faiss.read_index() reads it; not there while they are made

One file, for it is replaced as a whole: a reader, and whoever goes on after a kill, sees the old or the new one, and a
copy is complete. A zip archive, for it has checksums and every member can be read alone: a search does not read the
descriptors. The descriptors lie beside the index because some kinds keep less than them, cannot drop one, or learn from
all; any index can be made from them anew. Nothing of it is executed when it is read.
"""

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np

from igoas_plugin.core.errors import InputError, PluginError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.core.version import __version__
from igoas_plugin.evaluation.ranking.neighbour_index import SearchIndex
from igoas_plugin.inference.fingerprint import Fingerprint

from .crops import Crop

FORMAT, VERSION = "igoas_plugin gallery", 1
ABOUT, DESCRIPTORS, INDEX = "gallery.json", "descriptors.npy", "index.faiss"
MOST_BEYOND = 2**20  # bytes that a member, unpacked, may have beyond the file: gallery.json is packed, and a bomb is
# What zipfile, json, numpy and faiss raise where a file is damaged or none of theirs
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, KeyError, TypeError, ValueError),
    MemoryError,  # of an array of which the header tells any size
)


T = TypeVar("T")


def of_type(kind: type[T], value) -> T:
    """The value; raises TypeError where it is none of this type, as of a foreign file."""
    if not isinstance(value, kind):
        raise TypeError(value)
    return value


@dataclass(frozen=True)
class Gallery:
    """What is known of the descriptors of a folder of crops.

    Args:
        folder: absolute path.
        kind: of the index, one of igoas_plugin.evaluation.ranking.neighbour_index.KINDS.
        fingerprint: of the model that made the descriptors.
        crops: in the order of the descriptors.
    """

    folder: str
    kind: str
    fingerprint: Fingerprint
    crops: list[Crop]


class GalleryFile:
    """A gallery index, open for reading.

    Args:
        path: of the file.

    Attributes:
        gallery: what it tells.
        finished: whether it holds the faiss index; without it, ``tools/search.py index`` was stopped, or is running.

    Raises:
        InputError: the file is missing, damaged, none of these, or of a later version.
    """

    def __init__(self, path: str):
        self.path = path
        with self._damage_in_one_line():
            self.file = open(path, "rb")
            self.archive = zipfile.ZipFile(self.file)
            self._require_sizes()
            about = json.loads(self.archive.read(ABOUT))
            if about["format"] != FORMAT:
                raise ValueError(about["format"])
            if of_type(int, about["version"]) > VERSION:
                raise InputError(f"{path} was made by a later igoas_plugin, {about['igoas_plugin']}: update this one")
            self.gallery = Gallery(
                folder=of_type(str, about["folder"]),
                kind=of_type(str, about["kind"]),
                fingerprint=Fingerprint(**about["fingerprint"]),
                crops=[
                    Crop(of_type(str, path), of_type(int, size), of_type(int, at)) for path, size, at in about["crops"]
                ],
            )
            of_type(dict, self.gallery.fingerprint.settings)
            self.beside = of_type(str, about["beside"])
            self.finished = INDEX in self.archive.namelist()

    def __enter__(self) -> "GalleryFile":
        return self

    def __exit__(self, *_) -> None:
        self.archive.close()
        self.file.close()

    def require(self, fingerprint: Fingerprint) -> None:
        """Raises InputError, naming the differences, where the descriptors are those of another model."""
        if differences := self.gallery.fingerprint.differences(fingerprint):
            raise InputError(
                f"{self.path} was made by another model than this one: {'; '.join(differences)}. Give the config and "
                "the weights that it was made with, or make another index"
            )

    def folder(self, moved_to: str | None = None) -> str:
        """Where the crops are: `moved_to`, or the folder that was indexed, or what lies now where that lay from here.

        Raises:
            InputError: `moved_to` is no folder.
        """
        if moved_to is not None and not os.path.isdir(moved_to):
            raise InputError(f"--folder {moved_to} is no folder: name the one that the indexed images are in now")
        beside = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(self.path)), self.beside))
        places = [moved_to] if moved_to else [self.gallery.folder, beside]
        return os.path.abspath(next((place for place in places if os.path.isdir(place)), self.gallery.folder))

    def descriptors(self) -> np.ndarray:
        """Shape (N, D), float32; raises InputError where they are damaged."""
        with self._damage_in_one_line(), self._verified(DESCRIPTORS) as member:
            descriptors = np.lib.format.read_array(member, allow_pickle=False)
            if descriptors.dtype != np.float32 or descriptors.ndim != 2 or len(descriptors) != len(self.gallery.crops):
                raise ValueError(descriptors.shape)
            return descriptors

    def index(self) -> SearchIndex:
        """The index of its kind, or an exact one where it is not finished; raises InputError where it is damaged."""
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

    def _require_sizes(self) -> None:
        """Raises InputError where a member tells of more bytes than the file; none gives more than it tells."""
        most = os.path.getsize(self.path) + MOST_BEYOND
        if large := next((each.filename for each in self.archive.infolist() if each.file_size > most), None):
            raise InputError(f"{self.path} is refused: unpacked its {large} is larger than the file itself")

    def _verified(self, name: str) -> BinaryIO:
        """A member of the archive, read to the checksum at its end once: nothing else gets to see damaged bytes."""
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


def write_gallery(path: str, gallery: Gallery, descriptors: np.ndarray, index: SearchIndex | None = None) -> None:
    """Writes a gallery index; what was there before is replaced as a whole.

    Args:
        path: of the file.
        gallery: what is known of them.
        descriptors: shape (N, D), float32, in the order of gallery.crops.
        index: of all of them, of gallery.kind; None: they are not all yet.

    Raises:
        OutputError: it cannot be written.
    """

    def write(file) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(ABOUT, as_json(path, gallery), zipfile.ZIP_DEFLATED)
            with archive.open(DESCRIPTORS, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, descriptors, allow_pickle=False)
            if index is not None:
                with archive.open(INDEX, "w", force_zip64=True) as member:
                    index.write(member)

    write_atomically(path, write)


def as_json(path: str, gallery: Gallery) -> str:
    about = {
        "format": FORMAT,
        "version": VERSION,
        "igoas_plugin": __version__,
        "kind": gallery.kind,
        "folder": gallery.folder,
        "beside": path_from(os.path.dirname(os.path.abspath(path)), gallery.folder),
        "fingerprint": json.loads(gallery.fingerprint.as_json()),
        "crops": gallery.crops,
    }
    return json.dumps(about)


def path_from(start: str, folder: str) -> str:
    """The relative path, or the absolute one where there is none (another drive of Windows)."""
    try:
        return os.path.relpath(folder, start)
    except ValueError:
        return folder
