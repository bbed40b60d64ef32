"""OccludedMarket1501: Market-1501 with an occlusion over every query."""

import functools
import os

import numpy as np
from fastreid.data.data_utils import read_image
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset
from fastreid.data.datasets.market1501 import Market1501
from PIL import Image

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.drawn_folder import provide
from igoas_plugin.datasets.market_style import Item
from igoas_plugin.datasets.published import SPLITS, Counts, register_variant, warn_once
from igoas_plugin.datasets.reading import open_data, read_split

from .occlude import VERSION, occlude, source

GALLERY_PART = "gallery10"  # folder of the occluded gallery images of OccludedMarket1501G10
# pixel_digest() by folder, made from the official queries and decoded by Pillow's libjpeg-turbo
DIGESTS = {
    "S1": "8e3fb60190c6f2318ebc82509c8714471472a7f443916c2c505a132a2f4fcf4b",
    "S2": "8ec33f8811e7493da30c6f58f74b9774788859836d717664a9f2bfbc35a88992",
    "S3": "2585770e3724cf9de80bc1c7092e488e6545e31e5e60de7af9e1da63f3755c97",
    "S4": "9fa8e315c120c53a2da72303537bf59c59e5450b8c67f4d6a8f3f207001c0774",
    "S5": "5675ececf5955e927289041768c2781cace511a7e854e542e70f99aa875a08f8",
    "V2S1": "7b3609be917fb00cae3cee988818974a28341db55dffc496dd3c4c083c0cccb8",
    "V2S2": "8e3fb60190c6f2318ebc82509c8714471472a7f443916c2c505a132a2f4fcf4b",
    "V2S3": "54b5a9d6b24e984ef82e10da257588b749d2ccc23a2e2538831d6ca23b57c45f",
    "V2S4": "66607f16b37284ce816a97129352abc533f3d4034b8f4b6dee6ca812d8f4412b",
    "V2S5": "bfb56ee66967563769e0deeb6d5f16feb66d81c65240d5a92e9e462ea045104c",
    "DevS1": "f8af1cf4b587ddf67446145304ece98046075b0aab85ff372b905bbdcdba5cb8",
    "DevS2": "5c14f3c744b81ea0e2f4d42c64f7978f9e5d8ff4f21db7746cf8bd39fc54fadc",
    "DevS3": "54c8773d679654a4462486b0583f8f1c8c9e3f08d508b82813e459bca7038cd8",
    "DevPartial": "4529642e125d49b3c4a913d076cc74e8365b09e906095661e304ef70a96d0cdc",
}


@DATASET_REGISTRY.register()
class OccludedMarket1501(ImageDataset):
    """Market-1501 with an occlusion over every query, made on first use; severity 3, all kinds.

    DukeMTMC is withdrawn, and with it Occluded-Duke, but Market-1501 can be had. This data set is made from it without
    a download. Everyone makes the same pixels, as an occlusion depends on the file name, a version number and the
    queries of Market-1501 alone. The occluded queries are PNG files::

        <root>/OccludedMarket1501/S3/query/0001_c1s1_001051_00.png      (beside <root>/Market-1501-v15.09.15)

    Training set and gallery are those of Market-1501.

    Kinds, each of a quarter of the queries: a rectangle of one colour (which resembles the occlusion that IGOAS and
    random erasing train with), a patch of another pedestrian, a rectangle with a texture, and truncation (a side of the
    image is cut off). Severities 1 to 5 hide or cut off 10, 20, 30, 40, 50 % of the image; 0 is Market1501 itself.
    Registered are OccludedMarket1501S1 to OccludedMarket1501S5 (S3 is this one) and OccludedMarket1501G10, where 10 %
    of the gallery images are occluded too, as in Occluded-Duke. tools/occlusion_curve.py evaluates single kinds.

    Version 2, OccludedMarket1501V2S1 to OccludedMarket1501V2S5, has the same occlusions in the same places, which hide
    or cut off 5, 10, 15, 23, 32 %. In version 1 most models find next to nothing from severity 4 on.

    Protocol: that of Market-1501 (single query; gallery images of the query's identity and camera are left out).

    It holds no photographs of occluded people: it measures how a descriptor degrades as parts of a person are hidden,
    nothing else.

    Source: this project. The images are those of Market-1501 (Zheng et al., *Scalable Person Re-identification: A
    Benchmark*, ICCV 2015). Terms: those of Market-1501, research use. Do not pass the generated files on.

    Raises:
        InputError: Market-1501 is not in `root`, or the generated folder is not complete or of another version.
        OutputError: the generated folder cannot be written.
    """

    _junk_pids = Market1501._junk_pids
    dataset_name = "occludedmarket1501"
    first_camera = 1
    # Counts of Market-1501: identity 0 of the gallery are its distractors, junk images (-1) are left out
    published = {"train": Counts(12936, 751, 6), "query": Counts(3368, 750, 6), "gallery": Counts(15913, 751, 6)}
    market_name = "Market1501"  # data set whose queries are occluded
    severity, kind, version = 3, "all", 1  # arguments of occlude()
    gallery_share = 0.0
    drawn = "S3"  # folder of the images that are drawn

    def __init__(self, root: str = "datasets", **kwargs):
        self.market = market_in(root, self.market_name)
        self.dataset_dir = os.path.join(root, "OccludedMarket1501")
        super().__init__(lambda: by_name(self.market.train), self._query, self._gallery, **kwargs)

    @functools.cached_property
    def _occluder(self) -> "QueryOccluder":
        return QueryOccluder(self.market.query)

    def _query(self) -> list[Item]:
        images, official = len(self._occluder.items), self.published["query"].images
        if images != official:
            warn_once(
                f"{type(self).__name__}: {self.market_name} in {os.path.abspath(self.market.data_dir)} has {images} "
                f"queries, official are {official}: the occlusions are not those that others get"
            )
        return self._occluded("query", self._occluder.items, DIGESTS.get(self.drawn))

    def _gallery(self) -> list[Item]:
        items = by_name(self.market.gallery)
        chosen = [item for item in items if source("gallery", name_of(item[0])).random_sample() < self.gallery_share]
        if not chosen:
            return items
        occluded = self._occluded(GALLERY_PART, chosen)
        rest = set(items) - set(chosen)
        return [*occluded, *(item for item in items if item in rest)]

    def _occluded(self, part: str, items: list[Item], expected: str | None = None) -> list[Item]:
        """Returns the items with their occluded images, which lie in a folder with the name `part`."""
        if not items:
            folder = os.path.abspath(self.market.data_dir)
            raise InputError(f"{type(self).__name__}: {self.market_name} in {folder} has no query")
        folder = os.path.join(self.dataset_dir, self.drawn, part)
        made = {f"{name_of(path)}.png": path for path, _, _ in items}

        def draw(name: str) -> Image.Image:
            return Image.fromarray(self._occluder.occluded(made[name], self.severity, self.kind, self.version))

        drawn = provide(type(self).__name__, folder, VERSION, made, draw).get("")
        if expected and len(made) == self.published["query"].images and drawn != expected:
            warn_once(
                f"{type(self).__name__}: the images in {os.path.abspath(folder)} are not bit-identical to those that "
                f"others get: your queries of {self.market_name} are not the official ones, or Pillow decodes them "
                "otherwise"
            )
        return [(os.path.join(folder, name), *item[1:]) for name, item in zip(made, items, strict=True)]


class QueryOccluder:
    """Occludes images of Market-1501; the other pedestrians are those of its queries.

    Args:
        query: queries of a data set of Market-1501: (path, identity, camera).
    """

    def __init__(self, query: list[Item]):
        self.items = by_name(query)

    def occluded(self, path: str, severity: int, kind: str = "all", version: int = 1) -> np.ndarray:
        """Returns the occluded image of a path: RGB, uint8, shape (H, W, 3). Arguments are those of occlude()."""
        name = name_of(path)
        return occlude(pixels_of(path), name, severity, lambda: pixels_of(self._donor(name)), kind, version)

    def _donor(self, name: str) -> str:
        """Returns the path of a query of another identity, drawn by the name of the occluded image."""
        identity = int(name.split("_")[0])
        others = [path for path, other, _ in self.items if other != identity]
        return others[source("donor", name).randint(len(others))]


def market_in(root: str, name: str = "Market1501") -> Market1501:
    """Returns a data set of Market-1501; raises InputError if it is not in `root`, or a file name cannot be read."""
    market = open_data(name, root)
    for split in SPLITS:
        read_split(name, market, split)
    return market


def by_name(items: list[Item]) -> list[Item]:
    """Returns the items sorted by file name; fast-reid takes the order of the file system."""
    return sorted(items, key=lambda item: os.path.basename(item[0]))


def name_of(path: str) -> str:
    """Returns a file name without suffix."""
    return os.path.splitext(os.path.basename(path))[0]


def pixels_of(path: str) -> np.ndarray:
    """Returns the pixels of an image: RGB, uint8, shape (H, W, 3)."""
    return np.asarray(read_image(path))


for severity in range(1, 6):
    doc = f"OccludedMarket1501 at severity {severity}."
    register_variant(OccludedMarket1501, f"S{severity}", doc, severity=severity, drawn=f"S{severity}")
    doc = f"OccludedMarket1501 at severity {severity} of version 2, which hides less."
    second = {"version": 2, "drawn": f"V2S{severity}"}
    register_variant(OccludedMarket1501, f"V2S{severity}", doc, severity=severity, **second)
doc = "OccludedMarket1501 with 10 % of the gallery images occluded, as in Occluded-Duke."
register_variant(OccludedMarket1501, "G10", doc, gallery_share=0.1)
