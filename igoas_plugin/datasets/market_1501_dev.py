"""Market1501Dev: a part of Market-1501's training identities, on which recipes are chosen."""

from collections import Counter

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.market1501 import Market1501

from .market_style import Item, training_items
from .occluded_market.occluded_market_1501 import OccludedMarket1501, by_name
from .published import Counts, register_variant


@DATASET_REGISTRY.register()
class Market1501Dev(Market1501):
    """Development split of Market-1501: recipes are chosen on its test part, so that no test set is looked at.

    All images are those of bounding_box_train. Nothing is copied. The last 150 of its 751 identities, by number, are
    the test part. Market1501Dev trains on the other 601, Market1501Dev250 on the first 250, for short experiments.

    Query: of each identity and camera the first image by file name, if the identity has images of another camera too.
    Gallery: all other images of the test part. The official images give 663 queries and 1,594 gallery images. Six of
    these queries have no gallery image of another camera, and no metric counts them.

    Registered are also Market1501DevS1, S2 and S3, whose queries have the occlusions of OccludedMarket1501 at that
    severity, and Market1501DevPartial, whose queries have lost 40 % on one side (truncation at severity 4). The other
    pedestrians in these occlusions are those of the 663 queries alone. They are drawn on first use::

        <root>/OccludedMarket1501/DevS1/query/1159_c1s5_027811_03.png

    Protocol: that of Market-1501 (single query; gallery images of the query's identity and camera are left out). The
    gallery is small and has no distractors: figures compare with each other, and not with those on Market-1501. A model
    that was trained on Market1501 has seen the test part.

    Source: this project; see OccludedMarket1501 for the source and terms of the images.

    Raises:
        InputError: Market-1501 is not in `root`.
    """

    without_match = 6  # queries without a gallery image of their identity and of another camera
    held_out = 150  # identities of the test part
    trained = None  # largest number of training identities; None for all
    published = {"train": Counts(10679, 601, 6), "query": Counts(663, 150, 6), "gallery": Counts(1594, 148, 6)}

    def process_dir(self, dir_path: str, is_train: bool = True) -> list[Item]:
        """Returns the images of a split, sorted by file name.

        Args:
            dir_path: query_dir for the queries; fast-reid's Market1501 passes the folder that it reads itself.
            is_train: True for the training set.
        """
        items = by_name(super().process_dir(self.train_dir, is_train=False))
        identities = sorted({identity for _, identity, _ in items})
        if is_train:
            trained = set(identities[: -self.held_out][: self.trained])
            return training_items([item for item in items if item[1] in trained], self.dataset_name)
        tested = set(identities[-self.held_out :])
        items = [item for item in items if item[1] in tested]
        first = {}  # image of each identity and camera
        for path, *labels in items:
            first.setdefault(tuple(labels), path)
        cameras = Counter(identity for identity, _ in first)
        queries = {path for (identity, _), path in first.items() if cameras[identity] > 1}
        return [item for item in items if (item[0] in queries) == (dir_path == self.query_dir)]


class OccludedDev(OccludedMarket1501):
    """Base of the variants of Market1501Dev with occluded queries."""

    market_name = "Market1501Dev"
    published, without_match = Market1501Dev.published, Market1501Dev.without_match


doc = "Market1501Dev, trained on its first 250 identities alone."
fewer = {**Market1501Dev.published, "train": Counts(4664, 250, 6)}
register_variant(Market1501Dev, "250", doc, trained=250, published=fewer)
for severity in range(1, 4):
    doc, drawn = f"Market1501Dev with occluded queries, severity {severity}, all kinds.", f"DevS{severity}"
    register_variant(OccludedDev, f"S{severity}", doc, stem="Market1501Dev", severity=severity, drawn=drawn)
doc, partial = "Market1501Dev whose queries have lost 40 % on one side.", {"severity": 4, "kind": "truncation"}
register_variant(OccludedDev, "Partial", doc, stem="Market1501Dev", drawn="DevPartial", **partial)
