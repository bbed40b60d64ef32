"""Lays out a published data set as the plugin and the host read it, from a folder or archive that a user has."""

import errno
import hashlib
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tqdm import tqdm

from igoas_plugin.core.errors import InputError, UnreadableImage
from igoas_plugin.core.files import cannot_write
from igoas_plugin.datasets.layout import Layout
from igoas_plugin.datasets.market_style import SUBSETS
from igoas_plugin.datasets.occluded_duke import OccludedDuke
from igoas_plugin.datasets.occluded_duke_names import official_names
from igoas_plugin.datasets.occluded_reid import OccludedREID
from igoas_plugin.datasets.p_duke import PDukeMTMC
from igoas_plugin.datasets.p_ethz import PETHZ
from igoas_plugin.datasets.partial_ilids import PartialiLIDS, PartialiLIDSUncropped
from igoas_plugin.datasets.partial_reid import PartialREID, PartialREIDOccluded
from igoas_plugin.datasets.published import PublishedDataset, warn_once
from igoas_plugin.fastreid_fixes.images import refuse_unreadable

from .source_parts import Place, find_parts, owner_of
from .sources import Folder, Source, open_source
from .unfinished_folder import put, unfinished_folder

LINKS = ("copy", "hard", "symlink")
MARKET = Layout(
    "Market-1501",
    "Market-1501-v15.09.15",
    dict.fromkeys(SUBSETS, ()),
    ("Market-1501", "Market1501"),
    origin="Market-1501-v15.09.15.zip of its authors",
)
MARKET_NAME = r"-?\d+_c\ds\d_"  # 0002_c1s1_000451_03.jpg, with a sequence: DukeMTMC-reID has folders of the same names
MARKET_IMAGES = dict(zip(SUBSETS, (12936, 3368, 19732), strict=True))  # of the files, junk images among them


def all_images(place: Place) -> dict[str, str]:
    """{path in the data set: path in the source} of every image in the parts."""
    return {
        part + image.removeprefix(folder): image
        for part, folder in place.parts.items()
        for image in place.source.images
        if image.startswith(f"{folder}/")
    }


def occluded_duke_images(place: Place) -> dict[str, str]:
    """The same by the authors' converter: queries that DukeMTMC-reID's query lacks are in its bounding_box_test.

    Images in another format than the official jpg keep it.
    """
    train, query, gallery = SUBSETS
    there, chosen = {stem_of(image): image for image in place.source.images}, {}
    for subset in SUBSETS:
        for name in official_names(subset):
            wanted = [f"{place.parts[part]}/{name}" for part in ((query, gallery) if subset == query else (subset,))]
            path = next((there[stem_of(each)] for each in wanted if stem_of(each) in there), wanted[0])
            chosen[f"{subset}/{stem_of(name)}{os.path.splitext(path)[1]}"] = path
    return chosen


def stem_of(path: str) -> str:
    return os.path.splitext(path)[0]


@dataclass(frozen=True)
class Recipe:
    """How a data set is made.

    Args:
        layout: its folders.
        readers: registered data sets that read it; a source must have what one of them needs, or else all parts.
        choose: tells which images of a source go where.
        name: what every file name begins with, a regular expression; a folder with no such file is another data set.
    """

    layout: Layout
    readers: tuple[type[PublishedDataset], ...] = ()
    choose: Callable[[Place], dict[str, str]] = all_images
    name: str = ""

    @property
    def needed(self) -> list[list[str]]:
        """Groups of parts; a source must have one of them."""
        return [reader.needed() for reader in self.readers] or [list(self.layout.parts)]

    def fits(self, place: Place) -> bool:
        """Whether a file of the place has a name as the data set has them."""
        return any(re.match(self.name, os.path.basename(image)) for image in all_images(place).values())


RECIPES = {
    "occluded-duke": Recipe(OccludedDuke.layout, (OccludedDuke,), occluded_duke_images),
    "occluded-reid": Recipe(OccludedREID.layout, (OccludedREID,)),
    "p-dukemtmc": Recipe(PDukeMTMC.layout, (PDukeMTMC,)),
    "p-ethz": Recipe(PETHZ.layout, (PETHZ,)),
    "partial-reid": Recipe(PartialREID.layout, (PartialREID, PartialREIDOccluded)),
    "partial-ilids": Recipe(PartialiLIDS.layout, (PartialiLIDS, PartialiLIDSUncropped)),
    "market-1501": Recipe(MARKET, name=MARKET_NAME),
}


def prepare(name: str, source: str, root: str, link: str = "copy") -> str:
    """Makes the folder of a data set; a warning is logged where its counts are not the published ones.

    Args:
        name: of RECIPES.
        source: path of a folder, or of a .zip or .rar archive, that holds the data set at any depth; of DukeMTMC-reID
            for occluded-duke.
        root: the folder that holds the data sets; made where it is missing.
        link: ``copy``, or from a folder ``hard`` or ``symlink``.

    Returns:
        One line: how many images of each part are where.

    Raises:
        InputError: the source lacks the data set or an image of it, or cannot be read; or the data set is there but
            not complete, or cannot be written. Nothing half-made is left then.
    """
    recipe = RECIPES[name]
    target = os.path.join(os.path.abspath(root), recipe.layout.folder)
    with ExitStack() as opened:
        place, chosen = find_images(recipe, source, opened)
        if link != "copy" and not isinstance(place.source, Folder):
            raise InputError(f"{place}: nothing in an archive can be linked to: take --link copy, or unpack it first")
        counts = {part: sum(path.startswith(f"{part}/") for path in chosen) for part in place.parts}
        line = f"{target}: images: {', '.join(f'{count} in {part}' for part, count in counts.items())}"
        there = f"{line} (complete already, nothing was written)"
        if os.path.lexists(target):
            refuse_incomplete(target, chosen, place)
            return there
        # Sizes, and times or checksums, tell another content of the same names
        content = [(path, image, place.source.images[image]) for path, image in chosen.items()]
        note = hashlib.sha256(repr((os.path.realpath(place.source.title), link, content)).encode()).hexdigest()
        try:
            with unfinished_folder(target, note) as folder:
                if folder is None:  # made by another process meanwhile
                    refuse_incomplete(target, chosen, place)
                    return there
                for path, image in tqdm(chosen.items(), desc=recipe.layout.title, unit=" images", disable=None):
                    put(folder, path, writer(place, image, link))
                read_once(recipe, place, folder, target)
        except UnreadableImage:  # an OSError too
            raise
        except OSError as error:
            raise cannot_write(target, error, "choose another --root") from None
    for part, published in MARKET_IMAGES.items() if recipe.layout is MARKET else ():
        warn_of_difference("Market1501", counts[part] != published and f"{part} has {counts[part]}, not {published}")
    return line


def find_images(recipe: Recipe, path: str, opened: ExitStack) -> tuple[Place, dict[str, str]]:
    """Where in a source the data set is, and which of its images go where; all of them are there and not empty.

    Args:
        recipe: of the data set.
        path: of the source. Where the data set is in an archive inside it, that one is opened.
        opened: closes what is opened.

    Raises:
        InputError: there is no such place, or several; images are missing or empty.
    """
    layout, others = recipe.layout, [each.layout for each in RECIPES.values() if each is not recipe]
    source = opened.enter_context(open_source(path))
    places = find_parts(source, layout, recipe.needed, others)
    for name in source.archives if not places else ():
        if owner_of([os.path.splitext(os.path.basename(name))[0]], others) is None:
            places += find_parts(opened.enter_context(source.inner(name)), layout, recipe.needed, others)
    places = [place for place in places if recipe.fits(place)]
    if not places:
        raise InputError(
            f"{source.title}: no folder in it holds images of {layout.title} in {' and '.join(recipe.needed[0])} "
            f"({passed_over(source, recipe)}): give what holds them as --source ({layout.origin})"
        )
    found = []  # what ranks a place, the place, its images
    for place in places:
        chosen = recipe.choose(place)
        missing = [image for image in chosen.values() if not place.source.images.get(image, (0,))[0]]
        found.append(((-len(missing), *place.likeness), place, chosen, missing))
    found.sort(key=lambda each: each[0], reverse=True)
    (rank, place, chosen, missing), *rest = found
    if missing:
        raise InputError(
            f"{place}: {len(missing):,} of {len(chosen):,} images are missing or empty, the first is {missing[0]}: get "
            f"a complete copy ({layout.origin})"
        )
    misnamed = [image for image in chosen.values() if not re.match(recipe.name, os.path.basename(image))]
    if misnamed:
        raise InputError(f"{place}: {misnamed[0]} is not named as in {layout.title}: rename the file or take it out")
    if rest and rest[0][0] == rank:
        raise InputError(f"{place} and {rest[0][1]} can both be {layout.title}: give the right one as --source")
    return place, chosen


def passed_over(source: Source, recipe: Recipe) -> str:
    """What was not looked at, for an error message."""
    what, layout = "hidden and linked folders are passed over", recipe.layout
    others = sorted({name for part in recipe.needed[0] for name in layout.parts[part]})
    if others:
        what += f"; {' and '.join(others)} count in a folder or archive that is named {layout.folder}"
    archives = source.packed if isinstance(source, Folder) else []
    return what + (
        f"; the archive {archives[0]} in it is not looked into, but can be a source itself" if archives else ""
    )


def refuse_incomplete(target: str, chosen: dict[str, str], place: Place) -> None:
    """Raises InputError where a folder lacks one of the images, or has it in another size."""
    paths = {path: os.path.join(target, path) for path in chosen}
    sizes = {path: os.path.getsize(file) if os.path.isfile(file) else None for path, file in paths.items()}
    wrong = [path for path, image in chosen.items() if sizes[path] != place.source.images[image][0]]
    if wrong:
        state = "is missing" if sizes[wrong[0]] is None else f"has {sizes[wrong[0]]} bytes"
        raise InputError(
            f"{target} is there but differs from {place} in {len(wrong):,} of {len(chosen):,} images, the first is "
            f"{wrong[0]}, which {state}: remove that folder or choose another --root"
        )


def writer(place: Place, image: str, link: str) -> Callable[[str], None]:
    """Gives what writes an image of a source, if it is one that can be opened, to the path that it gets."""

    def write(path: str) -> None:
        content = place.source.read(image)
        refuse_unreadable(os.path.join(place.source.title, image), content)
        if link == "symlink":
            return os.symlink(place.source.location(image), path)
        if link == "copy":
            with open(path, "wb") as file:
                file.write(content)
            return
        try:
            os.link(place.source.location(image), path)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            raise InputError(
                f"{place.source.location(image)}: a hard link in another place fails ({error.strerror}): take --link "
                "copy or --link symlink"
            ) from None

    return write


def unopened(reader: type[PublishedDataset]) -> PublishedDataset:
    """A registered data set that has not looked for its folder."""
    return reader.__new__(reader)


def read_once(recipe: Recipe, place: Place, folder: str, target: str) -> None:
    """Reads an unfinished folder as the registered data sets will read it; warns of counts.

    Raises:
        InputError: a file name cannot be read; the path is that in the source.
    """
    for reader in recipe.readers:
        data = unopened(reader)
        if not set(reader.needed()) <= set(place.parts):
            continue
        try:
            data.dataset_dir, data.parts = recipe.layout.find(os.path.dirname(folder), reader.needed())
            for split in reader.published:
                wrong = data._difference(split, data._read(split))
                warn_of_difference(reader.__name__, wrong and wrong.replace(folder, target))
        except InputError as error:
            raise InputError(f"{place}: {str(error).replace(folder + os.sep, '')}") from None


def warn_of_difference(name: str, wrong: str | None) -> None:
    """Warns in the words of PublishedDataset where something is wrong."""
    if wrong:
        warn_once(f"{name}: {wrong}: results do not compare with published ones")
