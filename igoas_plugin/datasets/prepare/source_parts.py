"""Where in a source the parts of a data set are."""

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.layout import Layout, plain

from .sources import Source


@dataclass(frozen=True)
class Place:
    """A folder in a source that holds parts of a data set.

    Args:
        source: the folder or archive.
        folder: in the source; "" is its top.
        parts: of the layout, with images in them: their own folders in the source.
        distance: how many folders it lies below the one that has the name of the data set, or the archive that has it;
            None where nothing around it is named so.
    """

    source: Source
    folder: str
    parts: dict[str, str]
    distance: int | None

    def __str__(self) -> str:
        return os.path.join(self.source.title, self.folder) if self.folder else self.source.title

    @property
    def likeness(self) -> tuple[bool, int, int]:
        """How well the names fit: that of the data set, how near it is, how many parts have the authors' own names."""
        own = sum(f"/{path}".endswith(f"/{part}") for part, path in self.parts.items())
        return self.distance is not None, -(self.distance or 0), own


def find_parts(
    source: Source, layout: Layout, choices: Iterable[Collection[str]], others: Collection[Layout]
) -> list[Place]:
    """Every folder of a source, at any depth, that holds the parts of a data set.

    The other names of a part, as ``query``, count in a folder or archive that is named after the data set alone.

    Args:
        source: the folder or archive.
        layout: the parts and their names.
        choices: groups of parts; all parts of one group must be there.
        others: data sets with parts of the same names; a folder that is named after one of them is passed over.

    Raises:
        InputError: two folders in one place can be the same part.
    """
    folders = {path[:end] for path in source.images for end, letter in enumerate(path) if letter == "/"}
    found = {}  # place: part: [(rank of the name, folder)]
    for folder in folders:
        steps = folder.split("/")
        for part, aliases in layout.parts.items():
            for rank, name in enumerate((part, *aliases)):
                depth = name.count("/") + 1
                if [plain(step) for step in steps[-depth:]] == [plain(step) for step in name.split("/")]:
                    found.setdefault("/".join(steps[:-depth]), {}).setdefault(part, []).append((rank, folder))
    places = []
    for folder, parts in sorted(found.items()):
        around = (source.name, *filter(None, folder.split("/")))
        owner = owner_of(around, (layout, *others))
        if owner is not layout:
            parts = {part: [each for each in ranked if each[0] == 0] for part, ranked in parts.items()}
            parts = {part: ranked for part, ranked in parts.items() if ranked}
        if owner in (None, layout) and any(set(group) <= set(parts) for group in choices):
            own = {part: _only(source, parts[part]) for part in layout.parts if part in parts}
            distance = next((up for up, name in enumerate(reversed(around)) if layout.is_named(name)), None)
            places.append(Place(source, folder, own, distance))
    return places


def owner_of(names: Iterable[str], layouts: Collection[Layout]) -> Layout | None:
    """The data set after which the last of some folders or archives is named that has the name of one."""
    of = {plain(folder): layout for layout in layouts for folder in layout.folders}
    return next((of[plain(name)] for name in reversed(list(names)) if plain(name) in of), None)


def _only(source: Source, folders: list[tuple[int, str]]) -> str:
    first, *others = sorted(folders)
    if others and others[0][0] == first[0]:
        raise InputError(f"{source.title} holds {first[1]} and {others[0][1]}, which can be the same part: remove one")
    return first[1]
