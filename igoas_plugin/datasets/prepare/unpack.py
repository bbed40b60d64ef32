"""Unpacking of the images in .zip and .rar archives."""

import errno
import lzma
import os
import shutil
import zipfile
import zlib

import rarfile

from igoas_plugin.core.errors import InputError, one_line
from igoas_plugin.datasets.image_files import is_image
from igoas_plugin.datasets.layout import plain

ARCHIVES = (".zip", ".rar")
# What damaged and encrypted archives raise. RuntimeError: encryption, or an unknown compression. ValueError: impossible
# times and names. OSError: impossible offsets, or an entry that is there twice.
DAMAGE = (zipfile.BadZipFile, rarfile.Error, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, OSError)
MOST_UNPACKED = 100  # bytes of all images to one byte of the archive: photographs have about 1, a zip bomb 1000
ADVICE = "unpack it elsewhere and give the folder"


def is_archive(path: str) -> bool:
    """Returns whether the suffix of a path is that of an archive."""
    return path.lower().endswith(ARCHIVES)


def unpack(path: str, folder: str, passed_over: set[str]) -> None:
    """Unpacks the images of an archive, and those of the archives in it.

    Args:
        path: path of the .zip or .rar archive.
        folder: folder that is made for the images. An inner archive becomes a folder with its name.
        passed_over: plain() names, without suffix, of inner archives that are not unpacked.

    Raises:
        InputError: the archive is damaged or encrypted, an entry leads out of the folder, or the images are far larger
            than the archive.
    """
    os.makedirs(folder)
    room = MOST_UNPACKED * os.path.getsize(path)
    room -= unpack_one(path, path, folder, room)
    inner = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names if is_archive(name)]
    for packed in sorted(inner):
        if plain(os.path.splitext(os.path.basename(packed))[0]) not in passed_over:
            title = os.path.join(path, os.path.relpath(packed, folder))
            room -= unpack_one(packed, title, os.path.splitext(packed)[0], room)


def unpack_one(path: str, title: str, folder: str, room: int) -> int:
    """Unpacks the images and the inner archives of one archive.

    Args:
        path: path of the archive.
        title: name of the archive in messages.
        folder: folder that is made for them.
        room: largest number of bytes that they may have together.

    Returns:
        The number of bytes that they have together.
    """
    where = title
    try:
        is_rar = path.lower().endswith(".rar")
        with rarfile.RarFile(path, errors="strict") if is_rar else zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir() and is_used(entry.filename)]
            size = sum(entry.file_size for entry in entries)  # a reader stops after the stated size of an entry
            if size > room:
                raise InputError(f"{title} has {size:,} bytes unpacked, far more than images have: nothing is unpacked")
            for entry in entries:
                where = f"{title}: {entry.filename}"
                file = os.path.normpath(os.path.join(folder, with_slashes(entry.filename)))
                if not file.startswith(folder + os.sep):
                    raise InputError(f"{where} leads out of the archive: nothing is unpacked")
                os.makedirs(os.path.dirname(file), exist_ok=True)
                with archive.open(entry) as packed, open(file, "xb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
            return size
    except InputError:  # a ValueError too
        raise
    except rarfile.RarCannotExec:  # rarfile cannot use bsdtar, and the 7z of Debian does not read .rar
        raise InputError(
            f"{where}: nothing here unpacks .rar: install unar or unrar (Debian and Ubuntu: apt install unar), "
            f"or {ADVICE}"
        ) from None
    except DAMAGE as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"{where} cannot be unpacked ({reason}): get the archive anew, or {ADVICE}") from None


def is_used(name: str) -> bool:
    """Returns whether an entry is an image or an archive, and no hidden file of an operating system."""
    hidden = any(
        step.startswith(".") and step.strip(".") or step == "__MACOSX" for step in with_slashes(name).split("/")
    )
    return (is_image(with_slashes(name)) or is_archive(name)) and not hidden


def with_slashes(name: str) -> str:
    """Returns a path with forward slashes, which an archive made on Windows may lack."""
    return name.replace("\\", "/")
