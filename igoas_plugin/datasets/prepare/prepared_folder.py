"""Folder of a published data set, made from the copy that a user has, as fast-reid and the plugin read it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from igoas_plugin.core.errors import InputError, PluginError, require_choice
from igoas_plugin.core.files import cannot_write, rename_finished, temporary_folder
from igoas_plugin.core.spelling import spelled
from igoas_plugin.datasets.image_files import refuse_twins
from igoas_plugin.datasets.layout import plain
from igoas_plugin.datasets.published import SPLITS, warn_once
from igoas_plugin.datasets.reading import open_data, read_split
from igoas_plugin.fastreid_fixes.images import refuse_unreadable

from .recipes import OWNERS, RECIPES, Parts, Recipe
from .unpack import ARCHIVES, is_archive, unpack

LINKS = ("copy", "hard", "symlink")
UNNAMED = 1000  # distance of a folder that lies in none with the name of a data set


def prepare(name: str, source: str, root: str, link: str = "copy") -> str:
    """Makes the folder of a data set; logs a warning if its counts are not the published ones.

    Args:
        name: key of RECIPES, in any case, with or without dashes and underscores.
        source: path of a folder, or of a .zip or .rar archive, that holds the data set at any depth. For OccludedDuke
            it holds DukeMTMC-reID.
        root: folder of the data sets, made if it is missing.
        link: ``copy``, or for a source that is a folder ``hard`` or ``symlink``.

    Returns:
        One line that tells where the images are and how many each part has.

    Raises:
        InputError: there is no such recipe; the source cannot be read, lacks an image or holds a damaged one; or the
            folder exists with other images. Nothing half-made is left.
        OutputError: the folder cannot be written.
    """
    name = spelled("NAME", name, RECIPES)
    require_choice("NAME", name, list(RECIPES))
    recipe, source = RECIPES[name], os.path.abspath(source)
    target = os.path.join(os.path.abspath(root), recipe.layout.folder)
    packed = is_archive(source) and os.path.isfile(source)
    if not packed and not os.path.isdir(source):
        raise InputError(
            f"there is no folder or {' or '.join(ARCHIVES)} archive {source}: give what holds the data set as --source"
        )
    if packed and link != "copy":
        raise InputError(f"{source}: nothing in an archive can be linked to: take --link copy, or unpack it first")
    folder = source
    try:
        with temporary_folder(target) as temporary:
            if packed:
                folder = os.path.join(temporary, "source", os.path.splitext(os.path.basename(source))[0])
                unpack(source, folder, passed_over={name for name in OWNERS if OWNERS[name] is not recipe.layout})
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
        advice = "choose another --root" + (", or --link copy" if link == "hard" else "")
        raise cannot_write(target, error, advice) from None


def find_images(recipe: Recipe, source: str) -> tuple[Parts, dict[str, str]]:
    """Finds the folder in a source, at any depth, that holds a data set, and its images.

    Returns:
        The folders of the parts, and {path in the data set: path in the source} of the images.

    Raises:
        InputError: no folder holds the data set, several do, or images are missing, empty or misnamed.
    """
    title, origin = recipe.layout.title, recipe.layout.origin
    found = []  # (distance, folder, parts, images)
    for distance, folder, parts in places_of(recipe, source):
        images = recipe.choose(parts)
        if any(re.match(recipe.name, os.path.basename(image)) for image in images.values()):
            found.append((distance, folder, parts, images))
    if not found:
        walk = os.walk(source)
        archives = [os.path.join(folder, name) for folder, _, names in walk for name in names if is_archive(name)]
        hint = f"; the archive {min(archives)} is not unpacked, but can be --source itself" if archives else ""
        raise InputError(
            f"{source}: no folder in it holds images of {title} in {' and '.join(recipe.needed[0])}{hint}: "
            f"give what holds them as --source ({origin})"
        )
    found.sort(key=lambda each: each[0])
    (distance, folder, parts, images), *others = found
    if others and others[0][0] == distance:
        raise InputError(f"{folder} and {others[0][1]} can both be {title}: give the right one as --source")
    missing = [image for image in images.values() if not os.path.isfile(image) or not os.path.getsize(image)]
    if missing:
        raise InputError(
            f"{folder}: {len(missing):,} of {len(images):,} images are missing or empty, the first is {missing[0]}: "
            f"get a complete copy ({origin})"
        )
    for image in images.values():
        if not re.match(recipe.name, os.path.basename(image)):
            raise InputError(f"{image} is not named as in {title}: rename the file or take it out")
    refuse_twins((image, os.path.dirname(image), 0) for image in images.values())
    return parts, images


def places_of(recipe: Recipe, source: str) -> Iterator[tuple[int, str, Parts]]:
    """Yields each folder that holds the needed parts of a data set: (distance, folder, parts).

    The distance is the number of levels up to a folder with the name of the data set, or UNNAMED. Other names of parts,
    such as ``query``, count below a folder with the name of the data set alone. Folders with the name of another data
    set are passed over.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"cannot read {error.filename}: {error.strerror}")

    layout = recipe.layout
    for folder, inner, _ in os.walk(source, onerror=refuse):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        around = [plain(name) for name in (os.path.basename(source), *os.path.relpath(folder, source).split(os.sep))]
        named = ((distance, OWNERS[name]) for distance, name in enumerate(reversed(around)) if name in OWNERS)
        distance, owner = next(named, (UNNAMED, None))
        if inner and owner in (None, layout):
            parts = layout.parts_in(folder, with_aliases=owner is layout)
            if any(set(group) <= set(parts) for group in recipe.needed):
                yield distance, folder, parts


def put(image: str, path: str, link: str) -> None:
    """Copies an image, or makes a link to it, after it was decoded."""
    with open(image, "rb") as file:
        content = file.read()
    refuse_unreadable(image, content)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if link == "symlink":
        os.symlink(os.path.realpath(image), path)
    elif link == "hard":
        os.link(os.path.realpath(image), path)
    else:
        with open(path, "wb") as file:
            file.write(content)


def differences(recipe: Recipe, counts: dict[str, int], finished: str) -> Iterator[str]:
    """Yields what differs from the published counts; reads the finished folder as the registered data sets will.

    Raises:
        InputError: a file name does not tell an identity.
    """
    if recipe.registered:
        with paths_below(finished):
            data = open_data(recipe.registered, os.path.dirname(finished))
            for split in SPLITS:
                read_split(recipe.registered, data, split)
    for part, published in recipe.published.items():
        if counts[part] != published:
            yield f"{recipe.layout.title}: {part} has {counts[part]} images, published are {published}"
    for reader in recipe.readers:
        if set(reader.needed()) <= set(counts):
            data = reader.__new__(reader)  # it would look for the folder in another place
            data.dataset_dir, data.parts = recipe.layout.find(os.path.dirname(finished), reader.needed())
            for split in reader.published:
                with paths_below(finished):
                    difference = data.difference(split, data.read(split))
                if difference:
                    yield f"{reader.__name__}: {difference}"


@contextmanager
def paths_below(folder: str) -> Iterator[None]:
    """Context in which an InputError names paths below a folder without that folder, which is a temporary one."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(folder + os.sep, "")) from None


def refuse_difference(target: str, images: dict[str, str]) -> None:
    """Raises InputError if a folder lacks one of the images, or has it in another size."""
    paths = {os.path.join(target, path): image for path, image in images.items()}
    wrong = [p for p, image in paths.items() if not os.path.isfile(p) or os.path.getsize(p) != os.path.getsize(image)]
    if wrong:
        raise InputError(
            f"{target} differs from the source in {len(wrong):,} of {len(images):,} images, the first is {wrong[0]}: "
            "remove that folder or choose another --root"
        )
