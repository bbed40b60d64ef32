"""Report on the data sets in a folder: what is there, how many images, and what differs from the published counts."""

import hashlib
import os
from dataclasses import dataclass, field

from fastreid.data.data_utils import read_image
from fastreid.data.datasets import DATASET_REGISTRY
from tabulate import tabulate
from tqdm import tqdm

from igoas_plugin.core.errors import InputError, PluginError, UnreadableImage

from . import OccludedMarket1501, ToyOccluded
from .drawn_folder import digests_of, manifest_of
from .market_style import Item
from .occluded_market.occluded_market_1501 import GALLERY_PART
from .published import SPLITS, Counts, PublishedDataset
from .reading import open_data, read_split, unmatched

# Data sets of fast-reid
PUBLISHED_OF_FASTREID = {
    "Market1501": OccludedMarket1501.published,
    "DukeMTMC": {"train": Counts(16522, 702, 8), "query": Counts(2228, 702, 8), "gallery": Counts(17661, 1110, 8)},
    "MSMT17": {"train": Counts(30248, 1041, 15), "query": Counts(11659, 3060, 15), "gallery": Counts(82161, 3060, 15)},
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
    *PUBLISHED_OF_FASTREID,
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
NAMED = 10  # problems of a split that are named


@dataclass
class SplitReport:
    """Counts of one split of a data set, with a line for each file that is missing, damaged or there twice."""

    counts: Counts
    published: Counts | None = None  # None if there are none
    difference: str | None = None  # difference() of the data set
    problems: list[str] = field(default_factory=list)

    @property
    def as_published(self) -> bool:
        """Whether the counts are the published ones."""
        pairs = zip(self.published or self.counts, self.counts, strict=True)
        return not self.difference and all(published in (None, found) for published, found in pairs)

    @property
    def state(self) -> str:
        """Cell of the table."""
        counts = "as published" if self.as_published else "differs"
        counts = "ok" if self.published is None else counts
        return f"{counts}, {len(self.problems)} problems" if self.problems else counts


@dataclass
class SetReport:
    """Report on one data set; `splits` are those that have images, or should have."""

    name: str
    folder: str = ""  # below the root; "" if it was not found
    why: str = ""  # reason why it was not found or cannot be read
    splits: dict[str, SplitReport] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether the data set is there as published and without problems, or will be made on first use."""
        return self.why in ("", FIRST_USE) and all(
            split.as_published and not split.problems for split in self.splits.values()
        )


def report(name: str, root: str, decode: bool = False, camera_rule: bool = True) -> SetReport:
    """Returns the report on one data set.

    Args:
        name: registered name.
        root: folder of the data sets.
        decode: True opens every image, with a progress bar.
        camera_rule: TEST.CAMERA_RULE, for queries without a match.
    """
    kind = DATASET_REGISTRY.get(name)
    drawn = drawn_folders(kind)
    made = all(os.path.isdir(os.path.join(root, folder)) for folder in drawn)
    if not made and issubclass(kind, ToyOccluded):  # which draws its images when it is opened
        return SetReport(name, why=FIRST_USE)
    try:
        data = open_data(name, root)
    except PluginError as error:
        return SetReport(name, folder_of(kind, root), reason(name, error))
    if not made:
        return SetReport(name, why=FIRST_USE)
    folder = getattr(data, "data_dir", None) or getattr(data, "dataset_dir", None) or root
    if folder == root and hasattr(data, "train_dir"):  # MSMT17, which lies in one of two folders below the root
        folder = os.path.dirname(data.train_dir)
    folder = os.path.relpath(folder, root)
    published, splits, seen = PUBLISHED_OF_FASTREID.get(name) or getattr(data, "published", {}), {}, {}
    try:
        for split in SPLITS:
            items = read_split(name, data, split)
            if items or split in published:
                is_published = isinstance(data, PublishedDataset)
                difference = data.difference(split, data.read(split)) if is_published else None
                counts = Counts(len(items), *(len({item[column] for item in items}) for column in (1, 2)))
                problems = decoded(name, items, seen) if decode else empty_files(items)
                splits[split] = SplitReport(counts, published.get(split), difference, problems)
        if "query" in splits:
            lonely = unmatched(data.query, data.gallery, camera_rule)
            if len(lonely) > getattr(data, "without_match", 0):  # of the protocol
                where = " in another camera" if camera_rule else ""
                remedy = " (TEST.CAMERA_RULE False counts those of one camera)" if camera_rule else ""
                splits["query"].problems.append(
                    f"{len(lonely)} of {len(data.query)} have no gallery image of their identity{where}, "
                    f"and no metric counts them{remedy}; the first is {lonely[0]}"
                )
            if decode:
                splits["query"].problems += changed_folders(root, drawn, [*data.train, *data.query, *data.gallery])
    except PluginError as error:
        return SetReport(name, folder, reason(name, error), splits)
    return SetReport(name, folder, "", splits)


def reason(name: str, error: PluginError) -> str:
    """Returns the message of an error without the name of the data set at its beginning, which the report adds."""
    return str(error).removeprefix(f"data set {name}: ").removeprefix(f"{name}: ")


def folder_of(kind: type, root: str) -> str:
    """Returns the folder below the root of a data set that cannot be opened; "" if nothing of it is there."""
    try:
        there = kind.layout.candidates(root) if issubclass(kind, PublishedDataset) else []
    except InputError:
        there = [root]
    return os.path.relpath(there[0], root) if there else ""


def drawn_folders(kind: type) -> list[str]:
    """Returns the folders below the root that a data set draws on first use; a report must not draw them."""
    if issubclass(kind, OccludedMarket1501):
        parts = ["query", GALLERY_PART] if kind.gallery_share else ["query"]
        return [os.path.join("OccludedMarket1501", kind.drawn, part) for part in parts]
    return [kind.__name__] if issubclass(kind, ToyOccluded) else []


def changed_folders(root: str, drawn: list[str], items: list[Item]) -> list[str]:
    """Returns the problems of drawn folders with other images than those that were drawn."""
    problems = []
    for folder in (os.path.join(root, each) for each in drawn):
        paths = [os.path.relpath(path, folder) for path, _, _ in items if path.startswith(folder + os.sep)]
        try:
            changed = digests_of(folder, paths)
        except UnreadableImage:  # decoded() names it
            continue
        if changed != manifest_of(folder).get("pixels", changed):
            problems.append(f"{folder}: not the images that were drawn: remove that folder, and it is drawn anew")
    return problems


def empty_files(items: list[Item]) -> list[str]:
    """Returns the problems that can be seen without opening a file."""
    empty = (path for path, _, _ in items if not os.path.isfile(path) or not os.path.getsize(path))
    return [f"{path}: missing or empty" for path in empty]


def decoded(name: str, items: list[Item], seen: dict[bytes, str]) -> list[str]:
    """Opens every image and returns the problems, files with equal content among them.

    Args:
        name: name of the data set.
        items: images of one split.
        seen: digest and path of the files of earlier splits; those of this split are added.
    """
    problems = []
    for path, _, _ in tqdm(items, desc=name, unit=" images", disable=None, leave=False):
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
    """Returns a table with a row for each split, then one line for each problem."""
    rows, lines = [], []
    for each in reports:
        if not each.splits:
            state = "cannot be read" if each.folder else FIRST_USE if each.why == FIRST_USE else "not found"
            rows.append((each.name, each.folder or "-", *(len(HEADERS) - 3) * ("-",), state))
        for split, found in each.splits.items():
            numbers = (f"{number:,}" for number in found.counts)
            rows.append((each.name, each.folder, split, *numbers, published_text(found.published), found.state))
            lines += [f"{each.name}, {split}: {problem}" for problem in found.problems[:NAMED]]
            if found.problems[NAMED:]:
                lines.append(f"{each.name}, {split}: and {len(found.problems) - NAMED} more")
        if each.folder and each.why:
            lines.append(f"{each.name}: {each.why}")
    return "\n".join([tabulate(rows, HEADERS, tablefmt="pipe", disable_numparse=True), *lines])


def published_text(counts: Counts | None) -> str:
    """Returns published counts as the cell of a table."""
    return " / ".join("-" if number is None else f"{number:,}" for number in counts) if counts else "-"
