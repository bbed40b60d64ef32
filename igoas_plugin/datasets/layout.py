"""Where the folders of a published data set lie, under whatever names they are in circulation."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from igoas_plugin.core.errors import InputError

# Folders that archives of several data sets unpack into; dataset: of ICCV19_Pose_Guided_Occluded_Person_ReID
CONTAINERS = ("ICME2018_Occluded-Person-Reidentification_datasets", "dataset")
# Folders that scripts make in that of a data set for a renamed copy
RENAMED = ("format",)


@dataclass(frozen=True)
class Layout:
    """The folders of a data set.

    Names are compared without case and punctuation: ``Occluded_REID``, ``occluded-reid`` and ``OccludedREID`` are one.

    Args:
        title: how the literature calls the data set.
        folder: its folder, as the data set's authors name it.
        parts: its sub-folders, with the other names of each that are in circulation.
        aliases: other names of `folder` in circulation.
        origin: where the data come from, as the end of an error message.
    """

    title: str
    folder: str
    parts: dict[str, tuple[str, ...]]
    aliases: tuple[str, ...] = ()
    origin: str = field(default="", kw_only=True)

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.folder, *self.aliases)

    def is_named(self, folder: str) -> bool:
        """Whether a folder, or an archive, has a name of the data set."""
        return plain(folder) in map(plain, self.folders)

    def find(self, root: str, needed: Iterable[str]) -> tuple[str, dict[str, str]]:
        """The folder of the data set below `root`, and the path of each of its parts that is there.

        Args:
            root: the folder that holds the data sets. The data set lies in it, in a folder of `CONTAINERS`, or once
                more in a folder of its own name, as archives unpack; or `root` is the data set's own folder.
            needed: parts that must be there.

        Raises:
            InputError: there is no such folder, it lacks a part, or a folder on the way cannot be read.
        """
        needed = list(needed)
        candidates = self.candidates(root)
        found = [(folder, {part: self._part(folder, part) for part in self.parts}) for folder in candidates]
        found = [(folder, parts) for folder, parts in found if all(parts[part] for part in needed)]
        # a copy that holds something goes before the empty folders that a broken unpacking left around it
        found.sort(key=lambda each: any(is_empty(each[1][part]) for part in needed))
        if found:
            folder, parts = found[0]
            return folder, {part: path for part, path in parts.items() if path}
        folder = candidates[0] if candidates else os.path.join(root, self.folder)
        missing = [folder] if not candidates else [os.path.join(folder, p) for p in needed if not self._part(folder, p)]
        raise InputError(
            f"{self.title}: there is no folder {os.path.abspath(missing[0])}: set the environment variable "
            f"FASTREID_DATASETS to the folder that holds {self.folder}/, and put your copy there, with "
            f"{', '.join(needed)} inside ({self.origin})"
        )

    def candidates(self, root: str) -> list[str]:
        """Folders below `root` with a name of the data set, the likeliest first."""
        containers = [path for name in CONTAINERS for path in matching(root, name)]
        found = [path for name in self.folders for place in (root, *containers) for path in matching(place, name)]
        if self.is_named(os.path.basename(os.path.abspath(root))):
            found.append(root)
        nested = [path for outer in found for name in (*self.folders, *RENAMED) for path in matching(outer, name)]
        return found + nested

    def _part(self, folder: str, part: str) -> str | None:
        """The path of a part; `part` and its other names may lie deeper: ``test/query``."""
        for name in (part, *self.parts[part]):
            paths = [folder]
            for step in name.split("/"):
                paths = [inner for path in paths for inner in matching(path, step)]
            if paths:
                return paths[0]
        return None


def matching(folder: str, name: str) -> list[str]:
    """Sub-folders of this name but for case and punctuation, the exact name first, then sorted.

    Raises:
        InputError: there is such a folder, but it cannot be read.
    """
    try:
        names = sorted(os.listdir(folder or "."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"cannot read the folder {os.path.abspath(folder)}: {error.strerror}") from None
    found = [each for each in names if plain(each) == plain(name) and not each.startswith(".")]
    found.sort(key=lambda each: each != name)
    return [path for path in (os.path.join(folder, each) for each in found) if os.path.isdir(path)]


def is_empty(folder: str) -> bool:
    """Whether nothing is in a folder; one that cannot be read is not empty."""
    try:
        return not os.listdir(folder)
    except OSError:
        return False


def plain(name: str) -> str:
    """A name without case and punctuation.

    Example:
        >>> plain("P-DukeMTMC_reID")
        'pdukemtmcreid'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower().removesuffix("-master"))
