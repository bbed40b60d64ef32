"""What lies in the folder of the data sets: found or not, counted, compared with what was published, opened."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastreid.data.data_utils import read_image
from fastreid.data.datasets import DATASET_REGISTRY
from tabulate import tabulate

from .check import open_data, read_split
from .datasets import OccludedMarket1501, ToyOccluded
from .datasets.generated import has_changed
from .datasets.market_style import Item
from .datasets.published import SPLITS, Counts, PublishedDataset
from .errors import InputError, UnreadableImage

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
        splits: those that have images.
    """

    name: str
    folder: str = ""
    why: str = ""
    splits: dict[str, SplitReport] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        return not self.why and all(split.as_published and not split.problems for split in self.splits.values())


def report(name: str, root: str, look: Callable[[list[Item]], list[str]]) -> SetReport:
    """Looks at one data set.

    Args:
        name: as registered.
        root: the folder that holds the data sets.
        look: gives the problems of the images of a split, such as missing_or_empty() or decoded().
    """
    kind = DATASET_REGISTRY.get(name)
    made = generated_in(kind)
    if made and not all(os.path.isdir(os.path.join(root, folder)) for folder in made):
        return SetReport(name, why=FIRST_USE)
    try:
        data = open_data(name, root)
    except InputError as error:
        there = kind.layout.candidates(root) if issubclass(kind, PublishedDataset) else []
        return SetReport(name, os.path.relpath(there[0], root) if there else "", str(error))
    folder = os.path.relpath(getattr(data, "data_dir", None) or getattr(data, "dataset_dir", None) or root, root)
    published, splits = PUBLISHED_OF_HOST.get(name) or getattr(data, "published", {}), {}
    try:
        for split in SPLITS:
            items = read_split(name, data, split)
            if items:
                published_set = isinstance(data, PublishedDataset)
                difference = data._difference(split, data._read(split)) if published_set else None
                identities, cameras = ({item[column] for item in items} for column in (1, 2))
                counts = (len(items), len(identities), len(cameras), published.get(split), difference)
                splits[split] = SplitReport(*counts, look(items))
    except InputError as error:
        return SetReport(name, folder, str(error), splits)
    return SetReport(name, folder, "", splits)


def generated_in(kind: type) -> list[str]:
    """Folders below the root that a data set generates on first use; looking must not make them."""
    if issubclass(kind, OccludedMarket1501):
        parts = ["query", *([kind.gallery_part()] if kind.gallery_share else [])]
        return [os.path.join("OccludedMarket1501", f"S{kind.severity}", part) for part in parts]
    return [kind.__name__] if issubclass(kind, ToyOccluded) else []


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


def decoded(items: list[Item], progress: Callable[[list[Item]], Iterable[Item]]) -> list[str]:
    """Problems that are seen where every image is opened.

    Files with equal content are named too, and folders of generated images that are no longer what was drawn.

    Args:
        items: of one split.
        progress: shows how far it is, as tqdm does.
    """
    problems, first = [], {}
    for path, _, _ in progress(items):
        try:
            read_image(path)
        except UnreadableImage as error:
            problems.append(str(error))
            continue
        with open(path, "rb") as file:
            twin = first.setdefault(hashlib.sha256(file.read()).digest(), path)
        if twin != path:
            problems.append(f"{path}: the same file as {twin}")
    if not problems:
        for folder in sorted({os.path.dirname(path) for path, _, _ in items}):
            if has_changed(folder):
                problems.append(f"{folder}: not the images that were drawn: remove that folder, and it is drawn anew")
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
