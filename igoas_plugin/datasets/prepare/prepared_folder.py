"""Folder of a published data set, laid out as fast-reid and the plugin read it."""

import os
from collections.abc import Iterator

from tqdm import tqdm

from igoas_plugin.core.errors import InputError, PluginError
from igoas_plugin.core.files import cannot_write, rename_finished, temporary_folder
from igoas_plugin.datasets.layout import plain
from igoas_plugin.datasets.published import warn_once
from igoas_plugin.fastreid_fixes.images import refuse_unreadable

from .find_images import find_images
from .recipes import RECIPES, Recipe
from .unpack import ARCHIVES, is_archive, unpack

LINKS = ("copy", "hard", "symlink")


def prepare(name: str, source: str, root: str, link: str = "copy") -> str:
    """Makes the folder of a data set; logs a warning if its counts are not the published ones.

    Args:
        name: key of RECIPES.
        source: path of a folder, or of a .zip or .rar archive, that holds the data set at any depth. For occluded-duke
            it holds DukeMTMC-reID.
        root: folder of the data sets, made if it is missing.
        link: ``copy``, or for a source that is a folder ``hard`` or ``symlink``.

    Returns:
        One line that tells where the images are and how many each part has.

    Raises:
        InputError: the source cannot be read, lacks an image or holds a damaged one, or the folder exists with other
            images. Nothing half-made is left.
        OutputError: the folder cannot be written.
    """
    recipe, source = RECIPES[name], os.path.abspath(source)
    target = os.path.join(os.path.abspath(root), recipe.layout.folder)
    packed = is_archive(source) and os.path.isfile(source)
    if not os.path.exists(source):
        raise InputError(f"there is no {source}: give the folder or archive of the data set as --source")
    if not packed and not os.path.isdir(source):
        raise InputError(
            f"{source} is neither a folder nor a {' or '.join(ARCHIVES)} archive: unpack it and give the folder"
        )
    if packed and link != "copy":
        raise InputError(f"{source}: nothing in an archive can be linked to: take --link copy, or unpack it first")
    folder = source
    try:
        with temporary_folder(target) as temporary:
            if packed:
                folder = os.path.join(temporary, "source", os.path.splitext(os.path.basename(source))[0])
                others = {
                    plain(name) for each in RECIPES.values() if each is not recipe for name in each.layout.folders
                }
                unpack(source, folder, passed_over=others)
            parts, images = find_images(recipe, folder)
            counts = {part: sum(path.startswith(f"{part}/") for path in images) for part in parts}
            line = f"{target}: images: {', '.join(f'{count} in {part}' for part, count in counts.items())}"
            if not os.path.lexists(target):
                finished = os.path.join(temporary, "finished", recipe.layout.folder)
                for path, image in tqdm(images.items(), desc=recipe.layout.title, unit=" images", disable=None):
                    put(image, os.path.join(finished, path), link)
                for difference in differences(recipe, counts, finished):
                    told = difference.replace(finished, target)
                    warn_once(f"{told}: results do not compare with published ones")
                if rename_finished(finished, target):
                    return line
            refuse_difference(target, images)
            return f"{line} (complete already, nothing was written)"
    except PluginError as error:
        raise type(error)(str(error).replace(folder, source)) from None
    except OSError as error:
        raise cannot_write(target, error, "choose another --root") from None


def put(image: str, path: str, link: str) -> None:
    """Copies an image, or makes a link to it, after it was decoded."""
    with open(image, "rb") as file:
        content = file.read()
    refuse_unreadable(image, content)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if link == "symlink":
        os.symlink(os.path.realpath(image), path)
    elif link == "hard":
        try:
            os.link(os.path.realpath(image), path)
        except OSError as error:
            raise InputError(
                f"{image}: a hard link in another place fails ({error.strerror}): take --link copy or --link symlink"
            ) from None
    else:
        with open(path, "wb") as file:
            file.write(content)


def differences(recipe: Recipe, counts: dict[str, int], finished: str) -> Iterator[str]:
    """Yields what differs from the published counts; reads the finished folder as the registered data sets will.

    Raises:
        InputError: a file name does not tell an identity.
    """
    for part, published in recipe.published.items():
        if counts[part] != published:
            yield f"{recipe.layout.title}: {part} has {counts[part]} images, published are {published}"
    for reader in recipe.readers:
        if set(reader.needed()) <= set(counts):
            data = reader.__new__(reader)  # it would look for the folder in another place
            data.dataset_dir, data.parts = recipe.layout.find(os.path.dirname(finished), reader.needed())
            for split in reader.published:
                try:
                    difference = data.difference(split, data.read(split))
                except InputError as error:
                    raise InputError(str(error).replace(finished + os.sep, "")) from None
                if difference:
                    yield f"{reader.__name__}: {difference}"


def refuse_difference(target: str, images: dict[str, str]) -> None:
    """Raises InputError if a folder lacks one of the images, or has it in another size."""
    paths = {os.path.join(target, path): image for path, image in images.items()}
    wrong = [p for p, image in paths.items() if not os.path.isfile(p) or os.path.getsize(p) != os.path.getsize(image)]
    if wrong:
        raise InputError(
            f"{target} differs from the source in {len(wrong):,} of {len(images):,} images, the first is {wrong[0]}: "
            "remove that folder or choose another --root"
        )
