"""What a data set is made from: the images in a folder, or in an archive that is not unpacked."""

import contextlib
import lzma
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import rarfile

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import open_regular
from igoas_plugin.datasets.image_files import is_image

ARCHIVES = (".zip", ".rar")
# ValueError: rarfile, of a time that cannot be
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)
LARGEST_IMAGE = 64 * 2**20  # bytes, unpacked; the largest of the published sets has less than 1 MB
MOST_PACKED = 100  # unpacked bytes of all images and archives to one packed; photographs have about 1, a bomb 1000
# rarfile 4.5 cannot use bsdtar, and the 7z of Debian has no .rar in it: neither is named
RAR_ADVICE = "install unar or unrar (Debian and Ubuntu: apt install unar), or unpack it elsewhere and give the folder"


class Folder:
    """The images below a folder; hidden and linked sub-folders are passed over.

    Args:
        path: the folder.

    Raises:
        InputError: a sub-folder cannot be read.
    """

    archives = ()  # that are looked into; those in a folder are not

    def __init__(self, path: str):
        self.title = os.path.abspath(path)  # for messages
        self.name = os.path.basename(self.title)
        self.images = {}  # path below the folder, with forward slashes: (bytes, time of the last change)
        self.packed = []  # paths of the archives
        for folder, inner, names in os.walk(self.title, onerror=self._unreadable):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            self.packed += [os.path.join(folder, name) for name in sorted(names) if name.lower().endswith(ARCHIVES)]
            for name in filter(is_image, sorted(names)):
                file = os.path.join(folder, name)
                state = os.stat(file) if os.path.isfile(file) else None  # a link to nothing counts as an empty file
                path = os.path.relpath(file, self.title).replace(os.sep, "/")
                self.images[path] = (state.st_size, state.st_mtime_ns) if state else (0, 0)

    def location(self, image: str) -> str:
        """Absolute path of an image, to be linked to; of its own target where it is a link."""
        return os.path.realpath(os.path.join(self.title, image))

    def read(self, image: str) -> bytes:
        try:
            with open_regular(os.path.join(self.title, image)) as file:
                return file.read()
        except OSError as error:
            self._unreadable(error)

    def _unreadable(self, error: OSError):
        raise InputError(f"cannot read {error.filename or self.title}: {error.strerror}") from None


class Archive:
    """The images in a .zip or .rar archive.

    Args:
        path: of the archive; its suffix tells the kind.
        file: the archive itself where it lies in another one, and `path` is for messages alone.
        outer: that other one. What both tell is held to the size of the outermost file.

    Raises:
        InputError: the archive cannot be read, is damaged or encrypted; an entry of it is a link or a device, leads out
            of the folder that it would be unpacked into, or is there twice; or unpacked it is as large as a bomb.
    """

    def __init__(self, path: str, file: BinaryIO | None = None, outer: "Archive | None" = None):
        self.title = os.path.abspath(path)
        self.name = os.path.splitext(os.path.basename(path))[0]
        with self._readable():
            if self.title.lower().endswith(".rar"):
                self._archive = rarfile.RarFile(file.name if file else self.title, errors="strict")
            else:
                self._archive = zipfile.ZipFile(file or self.title)
            entries = self._archive.infolist()
        if not entries and isinstance(self._archive, rarfile.RarFile) and self._archive.needs_password():
            raise self._encrypted()
        self._entries = {}
        for entry in entries:
            path = self._safe(entry)
            used = _is_used(path) and not entry.is_dir()
            if used and self._entries.setdefault(path, entry) is not entry:
                raise InputError(f"{self.title} holds {path} twice: unpack it, keep the right one and give the folder")
        self._outermost = outer._outermost if outer else self
        self._unpacked = outer._unpacked if outer else {}  # title of an archive: bytes of all that it holds
        self._require_sizes()
        # path in the archive: (bytes, CRC)
        self.images = {path: (each.file_size, each.CRC) for path, each in self._entries.items() if is_image(path)}

    def read(self, image: str) -> bytes:
        with self._readable(image), self._archive.open(self._entries[image]) as file:
            return file.read()

    @contextlib.contextmanager
    def inner(self, name: str) -> Iterator["Archive"]:
        """Opens an archive of `self.archives`; a temporary file holds it meanwhile."""
        # rarfile hands a path to the tool that unpacks; a file without one is gone even when the process is killed
        temporary = tempfile.NamedTemporaryFile if name.lower().endswith(".rar") else tempfile.TemporaryFile
        with temporary() as file:
            with self._readable(name), self._archive.open(self._entries[name]) as packed:
                shutil.copyfileobj(packed, file)
            file.flush()
            with Archive(os.path.join(self.title, name), file, outer=self) as archive:
                yield archive

    @property
    def archives(self) -> list[str]:
        """Archives in this one, by path."""
        return sorted(path for path in self._entries if path not in self.images)

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_):
        self._archive.close()

    def _safe(self, entry: zipfile.ZipInfo | rarfile.RarInfo) -> str:
        """The path of an entry, with forward slashes."""
        path, packed_by_rar = entry.filename.replace("\\", "/"), isinstance(entry, rarfile.RarInfo)
        steps = [step for step in path.split("/") if step not in ("", ".")]
        if path.startswith("/") or ".." in steps or re.match("[A-Za-z]:", path):
            raise InputError(
                f"{self.title}: the entry {entry.filename!r} leads out of the archive: nothing is unpacked"
            )
        if is_image(path) and re.search(r"[\0-\x1f]", path):
            raise InputError(f"{self.title}: the name of the entry {entry.filename!r} is damaged: get the archive anew")
        if entry.is_symlink() if packed_by_rar else stat.S_ISLNK(entry.external_attr >> 16):
            raise InputError(f"{self.title}: the entry {entry.filename!r} is a link: nothing is unpacked")
        unix = entry.host_os == rarfile.RAR_OS_UNIX if packed_by_rar else True
        mode = entry.mode if packed_by_rar else entry.external_attr >> 16
        if unix and stat.S_IFMT(mode or 0) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"{self.title}: the entry {entry.filename!r} is no file or folder: nothing is unpacked")
        if entry.needs_password() if packed_by_rar else entry.flag_bits & 1:
            raise self._encrypted()
        return "/".join(steps)

    def _require_sizes(self) -> None:
        """Raises InputError where the entries tell of more bytes than images have; none gives more than it tells."""
        sizes = {path: entry.file_size for path, entry in self._entries.items()}
        largest = max(filter(is_image, sizes), key=sizes.get, default=None)
        if largest and sizes[largest] > LARGEST_IMAGE:
            raise InputError(
                f"{self.title}: {largest} has {sizes[largest]:,} bytes, more than {LARGEST_IMAGE:,}, as no image of a "
                "person has: nothing is unpacked"
            )
        self._unpacked[self.title] = sum(sizes.values())
        packed, total = os.path.getsize(self._outermost.title), sum(self._unpacked.values())
        if total > MOST_PACKED * packed:
            raise InputError(
                f"{self._outermost.title} has {packed:,} bytes, and {total:,} unpacked, more than {MOST_PACKED} times "
                "as many, as no images have: nothing is unpacked"
            )

    def _encrypted(self) -> InputError:
        return InputError(f"{self.title} is encrypted: unpack it with its password and give the folder")

    @contextlib.contextmanager
    def _readable(self, entry: str = "") -> Iterator[None]:
        where = f"{self.title}: {entry}" if entry else self.title
        try:
            yield
        except rarfile.RarCannotExec:
            raise InputError(f"{self.title}: nothing here unpacks .rar: {RAR_ADVICE}") from None
        except rarfile.PasswordRequired:
            raise self._encrypted() from None
        except rarfile.Error as error:
            raise InputError(f"{where} cannot be read ({error}): it is damaged, or else {RAR_ADVICE}") from None
        except DAMAGE as error:
            raise InputError(f"{where} is damaged ({str(error) or 'it is cut off'}): get the archive anew") from None
        except OSError as error:
            raise InputError(f"cannot read {where}: {error.strerror or error}") from None


def _is_used(path: str) -> bool:
    """Whether an entry is an image or an archive, and nothing that an operating system keeps for itself."""
    hidden = any(step.startswith(".") or step == "__MACOSX" for step in path.split("/"))
    return (is_image(path) or path.lower().endswith(ARCHIVES)) and not hidden


Source = Folder | Archive


@contextlib.contextmanager
def open_source(path: str) -> Iterator[Source]:
    """Opens what a user names.

    Args:
        path: of a folder, or of a .zip or .rar archive.

    Raises:
        InputError: there is nothing, or something else; or as Folder and Archive.
    """
    if not os.path.exists(path):
        raise InputError(f"there is no {os.path.abspath(path)}: give the folder or archive of the data set as --source")
    if os.path.isdir(path):
        yield Folder(path)
    elif path.lower().endswith(ARCHIVES) and os.path.isfile(path):
        with Archive(path) as archive:
            yield archive
    else:
        raise InputError(
            f"{os.path.abspath(path)} is neither a folder nor a {' or '.join(ARCHIVES)} archive: unpack it and give "
            "the folder"
        )
