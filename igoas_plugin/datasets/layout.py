"""Folders of a published data set, under all the names that are in circulation."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from igoas_plugin.core import spelling
from igoas_plugin.core.errors import InputError

# Folders that archives of several data sets unpack into; dataset: of ICCV19_Pose_Guided_Occluded_Person_ReID
CONTAINERS = ("ICME2018_Occluded-Person-Reidentification_datasets", "dataset")


@dataclass(frozen=True)
class Layout:
    """Folders of a data set.

    Names are compared without case and punctuation: ``Occluded_REID``, ``occluded-reid`` and ``OccludedREID`` are one.
    """

    title: str  # registered name of the data set, for messages
    folder: str  # name that its authors give its folder
    parts: dict[str, tuple[str, ...]]  # sub-folders, such as test/query, each with its other names in circulation
    aliases: tuple[str, ...] = ()  # other names of `folder` in circulation
    origin: str = field(default="", kw_only=True)  # source of the data, as the end of an error message

    @property
    def folders(self) -> tuple[str, ...]:
        """All names of the folder."""
        return (self.folder, *self.aliases)

    def find(self, root: str, needed: Iterable[str], title: str = "") -> tuple[str, dict[str, str]]:
        """Finds the folder of the data set below `root`, and its parts.

        Args:
            root: folder of the data sets. The data set lies in it, in a folder of `CONTAINERS`, or in a second folder
                of its name, as archives unpack; or `root` is the folder of the data set itself.
            needed: parts that must be there.
            title: registered name of the reader, for messages; "" for that of the layout.

        Returns:
            The folder, and the path of each part that is there.

        Raises:
            InputError: there is no such folder, it lacks a part, or a folder on the way cannot be read.
        """
        needed = list(needed)
        found = [(folder, self.parts_in(folder)) for folder in self.candidates(root)]
        for folder, parts in found:
            if set(needed) <= set(parts):
                return folder, parts
        folder, parts = found[0] if found else (os.path.join(root, self.folder), {})
        missing = next(os.path.join(folder, part) for part in needed if part not in parts) if found else folder
        raise InputError(
            f"{title or self.title}: there is no folder {os.path.abspath(missing)}: set the environment variable "
            f"FASTREID_DATASETS to the folder that holds {self.folder}/, and put your copy there, with "
            f"{', '.join(needed)} inside ({self.origin})"
        )

    def candidates(self, root: str) -> list[str]:
        """Returns the folders below `root` with a name of the data set, the likeliest first."""
        containers = [path for name in CONTAINERS for path in matching(root, name)]
        found = [path for name in self.folders for place in (root, *containers) for path in matching(place, name)]
        if plain(os.path.basename(os.path.abspath(root))) in map(plain, self.folders):
            found.append(root)
        inner = (*self.folders, "format")  # scripts make a renamed copy in a folder "format"
        return found + [path for outer in found for name in inner for path in matching(outer, name)]

    def parts_in(self, folder: str, with_aliases: bool = True) -> dict[str, str]:
        """Returns the path of each part that a folder holds."""
        parts = {}
        for part, aliases in self.parts.items():
            for name in (part, *(aliases if with_aliases else ())):
                paths = [folder]
                for step in name.split("/"):
                    paths = [inner for path in paths for inner in matching(path, step)]
                if paths:
                    parts[part] = paths[0]
                    break
        return parts


def matching(folder: str, name: str) -> list[str]:
    """Returns the sub-folders with a name but for case and punctuation: the exact name first, then sorted.

    Raises:
        InputError: the folder exists and cannot be read.
    """
    try:
        names = sorted(os.listdir(folder or "."), key=lambda each: (each != name, each))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"cannot read the folder {os.path.abspath(folder)}: {error.strerror}") from None
    found = [os.path.join(folder, each) for each in names if plain(each) == plain(name) and not each.startswith(".")]
    return [path for path in found if os.path.isdir(path)]


def plain(name: str) -> str:
    """Returns the name of a folder without case, punctuation and the suffix of GitHub's archives.

    Example:
        >>> plain("Occluded-DukeMTMC-Dataset-master")
        'occludeddukemtmcdataset'
    """
    return spelling.plain(name.lower().removesuffix("-master"))
