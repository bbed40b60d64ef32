"""What lies in the folder of the data sets: found or not, counted, compared with what was published, opened."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastreid.data.data_utils import read_image
from fastreid.data.datasets import DATASET_REGISTRY
from tabulate import tabulate

from igoas_plugin.core.errors import InputError, PluginError, UnreadableImage

from . import OccludedMarket1501, ToyOccluded
from .drawn_folder import digests_of, manifest_of
from .market_style import Item
from .occluded_market.occluded_market_1501 import market_in
from .published import SPLITS, Counts, PublishedDataset
from .reading import open_data, read_split, unmatched

# The host's own classes
PUBLISHED_OF_HOST = {
    "Market1501": OccludedMarket1501.published,
    "DukeMTMC": {"train": Counts(16522, 702, 8), "query": Counts(2228, 702, 8), "gallery": Counts(17661, 1110, 8)},
}
KNOWN = (
    "OccludedDuke",
    "OccludedREID",
    "PDukeMTMC",
    "PETHZ",
    "PartialREID",
    "PartialREIDOccluded",
    "PartialiLIDS",
    "PartialiLIDSUncropped",
    *PUBLISHED_OF_HOST,
    "OccludedMarket1501",
    "ToyOccluded",
)
FIRST_USE = "made on first use"
HEADERS = (
    "data set",
    "folder",
    "split",
    "images",
    "identities",
    "cameras",
    "published (images / identities / cameras)",
    "state",
)
NAMED = 10  # problems of a split that are written out
Progress = Callable[[list[Item]], Iterable[Item]]


@dataclass
class SplitReport:
    """What one split of a data set holds.

    Args:
        images: how many.
        identities: how many.
        cameras: how many; 1 where the names tell none.
        published: the counts that it should have; None where there are none.
        difference: what the data set itself finds different from what was published.
        problems: files that are missing, empty or unreadable, each with its reason; and files that are there twice.
    """

    images: int
    identities: int
    cameras: int
    published: Counts | None = None
    difference: str | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def as_published(self) -> bool:
        if self.published is None or self.difference:
            return not self.difference
        wanted = (
            self.published.images or self.images,
            self.published.identities,
            self.published.cameras or self.cameras,
        )
        return (self.images, self.identities, self.cameras) == wanted

    @property
    def state(self) -> str:
        counts = "as published" if self.as_published else "differs"
        counts = "ok" if self.published is None else counts
        return f"{counts}, {len(self.problems)} problems" if self.problems else counts


@dataclass
class SetReport:
    """What is there of one data set.

    Args:
        name: as registered.
        folder: where it lies, below the root; "" where it was not found.
        why: what is wrong where it was not found or cannot be read.
        splits: those that have images, or should have.
    """

    name: str
    folder: str = ""
    why: str = ""
    splits: dict[str, SplitReport] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        return self.why in ("", FIRST_USE) and all(
            split.as_published and not split.problems for split in self.splits.values()
        )


def report(name: str, root: str, progress: Progress | None = None) -> SetReport:
    """Looks at one data set.

    Args:
        name: as registered.
        root: the folder that holds the data sets.
        progress: shows how far it is, as tqdm does, while every image is opened; None: none is opened.
    """
    kind = DATASET_REGISTRY.get(name)
    made = generated_in(kind)
    if made and not all(os.path.isdir(os.path.join(root, folder)) for folder in made):
        return SetReport(name, why=FIRST_USE if can_be_made(kind, root) else "it is made from Market-1501, not found")
    try:
        data = open_data(name, root)
    except PluginError as error:
        return SetReport(name, folder_of(kind, root), str(error))
    folder = os.path.relpath(getattr(data, "data_dir", None) or getattr(data, "dataset_dir", None) or root, root)
    published, splits, seen = PUBLISHED_OF_HOST.get(name) or getattr(data, "published", {}), {}, {}
    try:
        for split in SPLITS:
            items = read_split(name, data, split)
            if items or split in published:
                published_set = isinstance(data, PublishedDataset)
                difference = data._difference(split, data._read(split)) if published_set else None
                identities, cameras = ({item[column] for item in items} for column in (1, 2))
                counts = (len(items), len(identities), len(cameras), published.get(split), difference)
                problems = decoded(items, progress, seen) if progress else missing_or_empty(items)
                splits[split] = SplitReport(*counts, problems)
        if "query" in splits:
            splits["query"].problems += without_match(data.query, data.gallery)
            if progress:
                splits["query"].problems += redrawn(root, made, [*data.train, *data.query, *data.gallery])
    except PluginError as error:
        return SetReport(name, folder, str(error), splits)
    return SetReport(name, folder, "", splits)


def folder_of(kind: type, root: str) -> str:
    """Where a published data set that cannot be opened lies, below the root; "" where there is nothing of it."""
    try:
        there = kind.layout.candidates(root) if issubclass(kind, PublishedDataset) else []
    except InputError:
        there = [root]
    return os.path.relpath(there[0], root) if there else ""


def generated_in(kind: type) -> list[str]:
    """Folders below the root that a data set generates on first use; looking must not make them."""
    if issubclass(kind, OccludedMarket1501):
        parts = ["query", *([kind.gallery_part()] if kind.gallery_share else [])]
        return [os.path.join("OccludedMarket1501", f"S{kind.severity}", part) for part in parts]
    return [kind.__name__] if issubclass(kind, ToyOccluded) else []


def can_be_made(kind: type, root: str) -> bool:
    """Whether what a generated data set is made from is there."""
    try:
        return not issubclass(kind, OccludedMarket1501) or bool(market_in(root))
    except InputError:
        return False


def without_match(query: list[Item], gallery: list[Item]) -> list[str]:
    """The problem of queries that no metric can count."""
    left_out = unmatched(query, gallery)
    if not left_out:
        return []
    return [
        f"{len(left_out)} of {len(query)} have no gallery image of their identity in another camera, and no metric "
        f"counts them; the first is {left_out[0]}"
    ]


def redrawn(root: str, made: list[str], items: list[Item]) -> list[str]:
    """Generated folders whose images are no longer those that were drawn; unreadable images are named elsewhere."""
    problems = []
    for folder in (os.path.join(root, each) for each in made):
        paths = [os.path.relpath(path, folder) for path, _, _ in items if path.startswith(folder + os.sep)]
        try:
            changed = digests_of(folder, (path.replace(os.sep, "/") for path in paths))
        except UnreadableImage:
            continue
        if changed != manifest_of(folder).get("pixels", changed):
            problems.append(f"{folder}: not the images that were drawn: remove that folder, and it is drawn anew")
    return problems


def missing_or_empty(items: list[Item]) -> list[str]:
    """Problems that can be seen without opening a file."""
    problems = []
    for path, _, _ in items:
        try:
            if not os.path.getsize(path):
                problems.append(f"{path}: the file is empty")
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    return problems


def decoded(items: list[Item], progress: Progress, seen: dict[bytes, str]) -> list[str]:
    """Problems that are seen where every image is opened; files with equal content are named too.

    Args:
        items: of one split.
        progress: as of report().
        seen: digest of a file and its path, of the splits before; added to.
    """
    problems = []
    for path, _, _ in progress(items):
        try:
            read_image(path)
        except UnreadableImage as error:
            problems.append(str(error))
            continue
        with open(path, "rb") as file:
            twin = seen.setdefault(hashlib.sha256(file.read()).digest(), path)
        if twin != path:
            problems.append(f"{path}: the same file as {twin}")
    return problems


def table_of(reports: list[SetReport]) -> str:
    """A row a split, then the problems, one a line."""
    rows, lines = [], []
    for each in reports:
        if not each.splits:
            state = "cannot be read" if each.folder else FIRST_USE if each.why == FIRST_USE else "not found"
            rows.append((each.name, each.folder or "-", *(len(HEADERS) - 3) * ("-",), state))
        for split, found in each.splits.items():
            counts = (f"{number:,}" for number in (found.images, found.identities, found.cameras))
            rows.append((each.name, each.folder, split, *counts, published_text(found.published), found.state))
            lines += [f"{each.name}, {split}: {problem}" for problem in found.problems[:NAMED]]
            if found.problems[NAMED:]:
                lines.append(f"{each.name}, {split}: and {len(found.problems) - NAMED} more")
        if each.folder and each.why:
            lines.append(f"{each.name}: {each.why}")
    return "\n".join([tabulate(rows, HEADERS, tablefmt="pipe", disable_numparse=True), *lines])


def published_text(counts: Counts | None) -> str:
    if counts is None:
        return "-"
    return " / ".join(
        "-" if number is None else f"{number:,}" for number in (counts.images, counts.identities, counts.cameras)
    )
