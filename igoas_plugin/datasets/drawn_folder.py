"""Folders of images that the plugin draws on first use."""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
from fastreid.data.data_utils import read_image
from PIL import Image

from igoas_plugin.core.errors import InputError, OutputError, PluginError
from igoas_plugin.core.files import cannot_write, rename_finished, temporary_folder

logger = logging.getLogger(f"fastreid.{__name__}")  # child of fast-reid's logger, which shows its lines

MANIFEST = "manifest.json"


def provide(
    title: str, folder: str, version: int, paths: Iterable[str], draw: Callable[[str], Image.Image]
) -> dict[str, str]:
    """Draws the images of a folder if it does not exist, and checks an existing one.

    The images are drawn beside `folder`, which appears when it is complete. If several processes draw at once, the
    folder of the first one stays.

    Args:
        title: name of the data set, for messages.
        folder: folder of the images and their manifest.
        version: version of the drawing. A folder of another version is refused.
        paths: paths of the PNG files below `folder`.
        draw: function that makes the image of a path.

    Returns:
        pixel_digest() of the images of each sub-folder as they were drawn.

    Raises:
        InputError: `folder` has another version or other images.
        OutputError: `folder` cannot be written.
    """
    paths = sorted(paths)
    manifest = {"version": version, "images": dict(Counter(os.path.dirname(path) for path in paths))}
    if not os.path.lexists(folder):
        logger.info("%s: drawing %d images into %s", title, len(paths), os.path.abspath(folder))
        try:
            with temporary_folder(folder) as unfinished:
                for path in paths:
                    file = os.path.join(unfinished, path)
                    os.makedirs(os.path.dirname(file), exist_ok=True)
                    draw(path).save(file, compress_level=1)
                manifest["pixels"] = digests_of(unfinished, paths)
                with open(os.path.join(unfinished, MANIFEST), "w", encoding="utf-8") as file:
                    json.dump(manifest, file, indent=2)
                rename_finished(unfinished, folder)
        except PluginError:  # an unreadable source image, which is an OSError too
            raise
        except OSError as error:
            advice = "set the environment variable FASTREID_DATASETS to a folder that can be written"
            raise OutputError(f"{title}: {cannot_write(folder, error, advice)}") from None
    found, there = manifest_of(folder), {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.png")}
    if found.get("version", version) != version:
        wrong = f"was drawn by version {found['version']} of the drawing, and this is version {version}"
    elif found.get("images") != manifest["images"] or not there.issuperset(paths):
        wrong = "is not complete, or was drawn from other images"
    else:
        return found.get("pixels") or digests_of(folder, paths)
    raise InputError(f"{title}: {os.path.abspath(folder)} {wrong}: remove that folder, and it is drawn anew")


def manifest_of(folder: str) -> dict:
    """Returns the manifest of a drawn folder, {} if it cannot be read."""
    try:
        with open(os.path.join(folder, MANIFEST), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def digests_of(folder: str, paths: Iterable[str]) -> dict[str, str]:
    """Returns pixel_digest() of the images of each sub-folder, in the order of their names.

    Args:
        folder: a drawn folder.
        paths: paths of its images below it.

    Raises:
        UnreadableImage: an image cannot be read.
    """
    return {
        subset: pixel_digest(np.asarray(read_image(os.path.join(folder, path))) for path in members)
        for subset, members in groupby(sorted(paths), os.path.dirname)
    }


def pixel_digest(images: Iterable[np.ndarray]) -> str:
    """Returns the SHA-256 over the shapes and pixels of images (RGB, uint8)."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(np.array(image.shape, dtype="<u4").tobytes() + image.tobytes())
    return digest.hexdigest()
