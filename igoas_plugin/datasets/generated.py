"""Folders of generated images: drawn on first use, whole or not at all."""

import io
import json
import logging
import os
import posixpath
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable

from PIL import Image

from ..errors import InputError

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are

MANIFEST = "manifest.json"  # written last: a folder without it is not complete
PROGRESS_SECONDS = 5.0


def provide(title: str, folder: str, version: int, paths: Iterable[str], draw: Callable[[str], Image.Image]) -> None:
    """Makes sure that `folder` holds these PNG files, drawing them if it does not exist.

    Several processes may ask at once: each draws, the first one's folder is kept. Everything is drawn in memory and
    then written beside `folder` and moved into place: a run that is stopped leaves no half of a data set.

    Args:
        title: name of the data set, for messages.
        folder: where the images go, with a manifest.
        version: of the drawing; a folder of another version is refused.
        paths: of the files below `folder`, with forward slashes.
        draw: makes the image of a path.

    Raises:
        InputError: `folder` exists with other content, or cannot be written.
    """
    paths = list(paths)
    manifest = {"version": version, "images": dict(Counter(posixpath.dirname(path) for path in paths))}
    if os.path.lexists(folder):
        _check(title, folder, manifest, paths)
        return
    parent = os.path.dirname(os.path.abspath(folder))
    try:
        os.makedirs(parent, exist_ok=True)
        if not os.access(parent, os.W_OK):
            raise PermissionError(None, "no permission to write")
        images = _draw(title, paths, draw)
        with tempfile.TemporaryDirectory(prefix=f".{title}_", dir=parent) as scratch:
            finished = os.path.join(scratch, "finished")
            _write(finished, images, manifest)
            try:
                os.rename(finished, folder)
                logger.info("%s: %d images drawn into %s", title, len(paths), os.path.abspath(folder))
            except OSError:
                if not os.path.isdir(folder):
                    raise
                _check(title, folder, manifest, paths)  # another process was first: its images are the same
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{title}: cannot write {os.path.abspath(folder)}: {error.strerror}; set the environment variable "
            "FASTREID_DATASETS to a folder that can be written"
        ) from None


def _draw(title: str, paths: list[str], draw: Callable[[str], Image.Image]) -> dict[str, bytes]:
    """PNG files by path; says how far it is where this takes more than a few seconds."""
    images, said = {}, time.monotonic()
    for path in paths:
        file = io.BytesIO()
        draw(path).save(file, "PNG", compress_level=1)
        images[path] = file.getvalue()
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            logger.info("%s: %d of %d images drawn", title, len(images), len(paths))
    return images


def _write(folder: str, images: dict[str, bytes], manifest: dict) -> None:
    for subset in manifest["images"]:
        os.makedirs(os.path.join(folder, subset), exist_ok=True)
    for path, content in images.items():
        with open(os.path.join(folder, path), "wb") as file:
            file.write(content)
    with open(os.path.join(folder, MANIFEST), "w") as file:
        json.dump(manifest, file, indent=2)


def _check(title: str, folder: str, manifest: dict, paths: list[str]) -> None:
    try:
        with open(os.path.join(folder, MANIFEST)) as file:
            found = json.load(file)
        files = {
            posixpath.join(subset, name)
            for subset in manifest["images"]
            for name in os.listdir(os.path.join(folder, subset))
        }
    except (FileNotFoundError, NotADirectoryError, ValueError):
        found, files = None, set()
    except OSError as error:
        raise InputError(f"{title}: cannot read {os.path.abspath(folder)}: {error.strerror}") from None
    if found == manifest and files >= set(paths):
        return
    if isinstance(found, dict) and found.get("version") != manifest["version"]:
        wrong = f"was drawn by version {found.get('version')} of the drawing, and this is version {manifest['version']}"
    else:
        wrong = "is not complete"
    raise InputError(f"{title}: {os.path.abspath(folder)} {wrong}: remove that folder, and it is drawn anew")
