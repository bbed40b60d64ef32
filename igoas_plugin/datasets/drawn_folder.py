"""Folders of generated images: drawn on first use, whole or not at all."""

import contextlib
import hashlib
import io
import json
import logging
import os
import posixpath
import time
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from fastreid.data.data_utils import read_image
from PIL import Image

from igoas_plugin.core.errors import InputError, OutputError
from igoas_plugin.core.files import cannot_write, rename_finished, scratch_folder

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are

MANIFEST = "manifest.json"  # written last: a folder without it is not complete
PROGRESS_SECONDS = 5.0


def provide(
    title: str, folder: str, version: int, paths: Iterable[str], draw: Callable[[str], Image.Image]
) -> dict[str, str]:
    """Makes sure that `folder` holds these PNG files, drawing them if it does not exist.

    Several processes may ask at once: each draws, the first one's folder is kept. Everything is drawn in memory and
    then written beside `folder` and moved into place: a run that is stopped leaves no half of a data set, and what one
    that is killed leaves beside it, the next one removes.

    Args:
        title: name of the data set, for messages.
        folder: where the images go, with a manifest.
        version: of the drawing; a folder of another version is refused.
        paths: of the files below `folder`, with forward slashes.
        draw: makes the image of a path.

    Returns:
        The digest of the images of each sub-folder as they were drawn, then or now: PixelDigest, in the order of names.

    Raises:
        InputError: `folder` exists with other content, or cannot be written.
    """
    paths = sorted(paths)
    images = dict(Counter(posixpath.dirname(path) for path in paths))
    if os.path.lexists(folder):
        return _check(title, folder, version, images, paths)
    try:
        existing = _missing_folders(folder)[1]
        if not os.path.isdir(existing) or not os.access(existing, os.W_OK):
            raise PermissionError(None, "no permission to write")
        files, pixels = _draw(title, paths, draw)
        if _moved_into_place(title, folder, files, {"version": version, "images": images, "pixels": pixels}):
            logger.info("%s: %d images drawn into %s", title, len(paths), os.path.abspath(folder))
    except OutputError:
        raise
    except OSError as error:
        advice = "set the environment variable FASTREID_DATASETS to a folder that can be written"
        raise OutputError(f"{title}: {cannot_write(folder, error, advice)}") from None
    return _check(title, folder, version, images, paths)


def _missing_folders(folder: str) -> tuple[list[str], str]:
    """The folders around a folder that do not exist yet, the innermost first, and the one around these that does."""
    missing, parent = [], os.path.dirname(os.path.abspath(folder))
    while not os.path.lexists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    return missing, parent


def _draw(title: str, paths: list[str], draw: Callable[[str], Image.Image]) -> tuple[dict[str, bytes], dict[str, str]]:
    """PNG files by path, and the digest of each sub-folder; says how far it is where this takes some seconds."""
    files, digests, said = {}, {}, time.monotonic()
    for path in paths:
        image, file = draw(path), io.BytesIO()
        digests.setdefault(posixpath.dirname(path), PixelDigest()).add(np.asarray(image))
        image.save(file, "PNG", compress_level=1)
        files[path] = file.getvalue()
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            logger.info("%s: %d of %d images drawn", title, len(files), len(paths))
    return files, {subset: digest.hexdigest() for subset, digest in digests.items()}


def _moved_into_place(title: str, folder: str, files: dict[str, bytes], manifest: dict) -> bool:
    """Writes everything beside `folder` and renames it; False where another process was first."""
    missing = _missing_folders(folder)[0]
    parent = os.path.dirname(os.path.abspath(folder))
    try:
        os.makedirs(parent, exist_ok=True)
        with scratch_folder(parent, f".{title}.drawing-") as scratch:
            finished = os.path.join(scratch, "finished")
            _write(finished, files, manifest)
            try:
                rename_finished(finished, folder)
            except OSError:
                if not os.path.isdir(folder):
                    raise
                return False
        return True
    finally:
        for each in missing:
            with contextlib.suppress(OSError):  # not empty: it holds what was drawn
                os.rmdir(each)


def _write(folder: str, images: dict[str, bytes], manifest: dict) -> None:
    for subset in manifest["images"]:
        os.makedirs(os.path.join(folder, subset), exist_ok=True)
    for path, content in images.items():
        with open(os.path.join(folder, path), "wb") as file:
            file.write(content)
    with open(os.path.join(folder, MANIFEST), "w") as file:
        json.dump(manifest, file, indent=2)


def _check(title: str, folder: str, version: int, images: dict[str, int], paths: list[str]) -> dict[str, str]:
    """The digests of a folder that is there; raises InputError where it is another one, or not complete."""
    found = manifest_of(folder)
    try:
        names = {
            posixpath.join(subset, name)
            for subset in found["images"]
            for name in os.listdir(os.path.join(folder, subset))
            if name != MANIFEST
        }
        complete = len(names) >= sum(found["images"].values())
    except (FileNotFoundError, NotADirectoryError, TypeError, KeyError, AttributeError):
        complete = False
    except OSError as error:
        raise InputError(f"{title}: cannot read {os.path.abspath(folder)}: {error.strerror}") from None
    if "version" in found and found["version"] != version:
        wrong = f"was drawn by version {found['version']} of the drawing, and this is version {version}"
    elif complete and not (found["images"] == images and names >= set(paths)):
        wrong = "was drawn from other images than those that are there now"
    elif not complete:
        wrong = "is not complete"
    else:
        return found.get("pixels") or digests_of(folder, paths)
    raise InputError(f"{title}: {os.path.abspath(folder)} {wrong}: remove that folder, and it is drawn anew")


def manifest_of(folder: str) -> dict:
    """What is known of a generated folder; {} where nothing is."""
    try:
        with open(os.path.join(folder, MANIFEST)) as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def digests_of(folder: str, paths: Iterable[str]) -> dict[str, str]:
    """The digest of the images of each sub-folder as they are now.

    Args:
        folder: that was generated.
        paths: of its images, below it, with forward slashes.

    Raises:
        UnreadableImage: one of them cannot be read.
    """
    digests = {}
    for path in sorted(paths):
        pixels = np.asarray(read_image(os.path.join(folder, path)))
        digests.setdefault(posixpath.dirname(path), PixelDigest()).add(pixels)
    return {subset: digest.hexdigest() for subset, digest in digests.items()}


class PixelDigest:
    """sha256 over the shapes and pixels of images (RGB, uint8), in the order in which they are added."""

    def __init__(self):
        self._sha256 = hashlib.sha256()

    def add(self, image: np.ndarray) -> None:
        self._sha256.update(np.array(image.shape, dtype="<u4").tobytes() + image.tobytes())

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()
