"""Recipes that tell how each published data set is made from the copy that a user has."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from igoas_plugin.datasets.image_files import images_below
from igoas_plugin.datasets.layout import Layout, plain
from igoas_plugin.datasets.market_style import SUBSETS
from igoas_plugin.datasets.occluded_duke import OccludedDuke
from igoas_plugin.datasets.occluded_duke_names import official_names
from igoas_plugin.datasets.occluded_reid import OccludedREID
from igoas_plugin.datasets.p_duke import PDukeMTMC
from igoas_plugin.datasets.p_ethz import PETHZ
from igoas_plugin.datasets.partial_ilids import PartialiLIDS, PartialiLIDSUncropped
from igoas_plugin.datasets.partial_reid import PartialREID, PartialREIDOccluded
from igoas_plugin.datasets.published import BODIES_DEPTH, PublishedDataset

Parts = dict[str, str]  # part of the layout: its folder in the source
MARKET = Layout(
    "Market1501",
    "Market-1501-v15.09.15",
    dict.fromkeys(SUBSETS, ()),
    ("Market-1501", "Market1501"),
    origin="Market-1501-v15.09.15.zip of its authors",
)
MARKET_NAME = r"-?\d+_c\ds\d_"  # 0002_c1s1_000451_03.jpg has a sequence, the names of DukeMTMC-reID have none
MARKET_IMAGES = dict(zip(SUBSETS, (12936, 3368, 19732), strict=True))  # junk images included


def all_images(parts: Parts, depth: int = BODIES_DEPTH) -> dict[str, str]:
    """Returns {path in the data set: path in the source} of every image that a reader of the parts will find.

    Args:
        depth: argument of images_below().
    """
    return {
        f"{part}/{os.path.relpath(image, folder)}": image
        for part, folder in parts.items()
        for image in images_below(folder, depth)
    }


def occluded_duke_images(parts: Parts) -> dict[str, str]:
    """Returns {path in Occluded-Duke: path in DukeMTMC-reID} of the official images.

    As in the authors' converter, a query that is not in the query folder of DukeMTMC-reID comes from its
    bounding_box_test.
    """
    _, query, gallery = SUBSETS
    chosen = {f"{part}/{name}": os.path.join(parts[part], name) for part in SUBSETS for name in official_names(part)}
    for name in official_names(query):
        if not os.path.isfile(chosen[f"{query}/{name}"]):
            chosen[f"{query}/{name}"] = os.path.join(parts[gallery], name)
    return chosen


@dataclass(frozen=True)
class Recipe:
    """Recipe of a data set."""

    layout: Layout
    readers: tuple[type[PublishedDataset], ...] = ()  # a source must hold the parts that one of them needs
    choose: Callable[[Parts], dict[str, str]] = all_images  # tells which images of a source go where
    name: str = ""  # regular expression that every file name matches at its beginning
    published: dict[str, int] = field(default_factory=dict)  # images by part, of a data set that fast-reid reads
    registered: str = ""  # name of that data set

    @property
    def needed(self) -> list[list[str]]:
        """Groups of parts. A source must hold one group."""
        return [reader.needed() for reader in self.readers] or [list(self.layout.parts)]


RECIPES = {
    "OccludedDuke": Recipe(OccludedDuke.layout, (OccludedDuke,), occluded_duke_images),
    "OccludedREID": Recipe(OccludedREID.layout, (OccludedREID,)),
    "PDukeMTMC": Recipe(PDukeMTMC.layout, (PDukeMTMC,)),
    "PETHZ": Recipe(PETHZ.layout, (PETHZ,)),
    "PartialREID": Recipe(PartialREID.layout, (PartialREID, PartialREIDOccluded)),
    "PartialiLIDS": Recipe(PartialiLIDS.layout, (PartialiLIDS, PartialiLIDSUncropped)),
    "Market1501": Recipe(
        MARKET,
        choose=functools.partial(all_images, depth=0),
        name=MARKET_NAME,
        published=MARKET_IMAGES,
        registered="Market1501",
    ),
}
OWNERS = {plain(name): recipe.layout for recipe in RECIPES.values() for name in recipe.layout.folders}
