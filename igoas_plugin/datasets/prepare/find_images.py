"""Search for the images of a data set in a folder."""

import os
import re
from collections.abc import Iterable

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.layout import Layout, plain

from .recipes import RECIPES, Parts, Recipe
from .unpack import is_archive

UNNAMED = 1000  # as far away as no named folder is


def find_images(recipe: Recipe, source: str) -> tuple[Parts, dict[str, str]]:
    """Finds the folder in a source, at any depth, that holds a data set, and its images.

    Args:
        recipe: recipe of the data set.
        source: path of the folder that is searched.

    Returns:
        The folders of the parts, and {path in the data set: path in the source} of the images.

    Raises:
        InputError: no folder holds the data set, several do, or images are missing, empty or misnamed.
    """
    title, origin = recipe.layout.title, recipe.layout.origin
    found = []  # (rank, folder, parts, images)
    for rank, folder, parts in places_of(recipe, source):
        images = recipe.choose(parts)
        if any(re.match(recipe.name, os.path.basename(image)) for image in images.values()):
            found.append((rank, folder, parts, images))
    if not found:
        raise InputError(
            f"{source}: no folder in it holds images of {title} in {' and '.join(recipe.needed[0])}"
            f"{hint(recipe, source)}: give what holds them as --source ({origin})"
        )
    found.sort(key=lambda each: each[0], reverse=True)
    (rank, folder, parts, images), *others = found
    if others and others[0][0] == rank:
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
    return parts, images


def places_of(recipe: Recipe, source: str) -> Iterable[tuple[tuple, str, Parts]]:
    """Yields each folder that holds the needed parts of a data set: (rank, folder, parts).

    The rank is higher the nearer a folder with the name of the data set is, and the more parts have the authors' own
    names. Other names of parts, such as ``query``, count below a folder with the name of the data set alone. Folders
    with the name of another data set are passed over.
    """
    layout, layouts = recipe.layout, [each.layout for each in RECIPES.values()]
    for folder, inner, _ in os.walk(source, onerror=refuse):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        around = [os.path.basename(source), *os.path.relpath(folder, source).split(os.sep)]
        owner = owner_of(around, layouts)
        if inner and owner in (None, layout):
            parts = layout.parts_in(folder, with_aliases=owner is layout)
            if any(set(group) <= set(parts) for group in recipe.needed):
                up = next((up for up, name in enumerate(reversed(around)) if layout.is_named(name)), UNNAMED)
                own = sum(path == os.path.join(folder, part) for part, path in parts.items())
                yield (-up, own), folder, parts


def owner_of(names: list[str], layouts: Iterable[Layout]) -> Layout | None:
    """Returns the data set whose name the innermost named folder has, None if no folder is named after one."""
    named = {plain(folder): layout for layout in layouts for folder in layout.folders}
    return next((named[plain(name)] for name in reversed(names) if plain(name) in named), None)


def hint(recipe: Recipe, source: str) -> str:
    """Returns the part of an error message that tells what was passed over."""
    aliases = sorted({name for part in recipe.needed[0] for name in recipe.layout.parts[part]})
    told = f" ({' and '.join(aliases)} count in a folder named {recipe.layout.folder})" if aliases else ""
    archives = [
        os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names if is_archive(name)
    ]
    return told + (f"; the archive {min(archives)} is not unpacked, but can be --source itself" if archives else "")


def refuse(error: OSError) -> None:
    """Raises InputError for a folder that cannot be read."""
    raise InputError(f"cannot read {error.filename}: {error.strerror}")
