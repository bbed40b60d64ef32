"""Occluded-REID, with its protocols."""

import numpy as np
from fastreid.data.datasets import DATASET_REGISTRY

from .layout import Layout
from .market_style import Item
from .published import BodyImages, Counts, register_draws

OCCLUDED, WHOLE = "occluded_body_images", "whole_body_images"
IDENTITIES = range(1, 201)


@DATASET_REGISTRY.register()
class OccludedREID(BodyImages):
    """Occluded-REID with all 200 identities for testing, by a model trained elsewhere (mostly on Market-1501)::

        <root>/Occluded_REID/occluded_body_images/001/001_01.tif     (identity 1, image 1)
        <root>/Occluded_REID/whole_body_images/001/001_01.tif

    Each identity has 5 occluded and 5 whole images.

    Other layouts that are read: one flat folder a part, numbers that scripts of other projects put into the names
    (``001_c1_01.tif``), and that of fast-reid's PartialReID project, ``OccludedREID/{query,gallery}``.

    Protocol: occluded images are the queries, whole images the gallery; Rank-k and mAP. The images were taken by moving
    cameras, and their names tell no camera. Query and gallery get one camera each here, so that no image is left out
    of the ranking.

    Source: Zhuo et al., *Occluded Person Re-Identification*, ICME 2018; repository
    ``tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets``, file ``Occluded_REID.zip``.

    Terms: academic or educational use, not commercial. Cite the paper. The repository holds a user agreement.
    """

    dataset_name = "occludedreid"
    layout = Layout(
        "OccludedREID",
        "Occluded_REID",
        {OCCLUDED: ("query",), WHOLE: ("gallery",)},
        origin="tools/prepare_data.py OccludedREID makes it from Occluded_REID.zip of "
        "github.com/tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets",
    )
    published = {"query": Counts(1000, 200), "gallery": Counts(1000, 200)}
    query_part, gallery_part = OCCLUDED, WHOLE


@DATASET_REGISTRY.register()
class OccludedREIDHalfSplit(OccludedREID):
    """Occluded-REID with half of the identities for training: the fixed half of IGOAS's released code.

    All images of identities 88 to 187 are for training. The occluded images of the other 100 identities are the
    queries, their whole images the gallery.

    The paper reports the mean of 10 random halves: OccludedREIDHalfSplit0 to OccludedREIDHalfSplit9. Layout and terms
    are those of OccludedREID. Figures do not compare with those of OccludedREID, which has all 200 identities in query
    and gallery.

    Source: ``torchreid/data/datasets/image/occludedreid.py`` of repository ``Vill-Lab/2021-TIP-IGOAS``.
    """

    dataset_name = "occludedreidhalfsplit"
    train_identities = frozenset(range(88, 188))
    published = {"train": Counts(1000, 100), "query": Counts(500, 100), "gallery": Counts(500, 100)}

    def read(self, split: str) -> list[Item]:
        """Returns the images of a split."""
        training = split == "train"
        items = super().read("query") + super().read("gallery") if training else super().read(split)
        return [item for item in items if (item[1] in self.train_identities) == training]

    def _identities(self, split: str) -> list[int]:
        return [number for number in IDENTITIES if (number in self.train_identities) == (split == "train")]


def random_half(seed: int) -> frozenset[int]:
    """Returns 100 of the 200 identities, the same for a seed on every machine.

    Args:
        seed: seed of numpy's RandomState, whose numbers stay the same in every version, 0 to 2**32 - 1.

    Example:
        >>> sorted(random_half(0))[:5]
        [3, 5, 6, 8, 9]
    """
    return frozenset(int(number) for number in np.random.RandomState(seed).permutation(IDENTITIES)[:100])


register_draws(
    OccludedREIDHalfSplit,
    "Random half {seed} of Occluded-REID: random_half({seed}) for training, the other 100 identities for testing.",
    lambda seed: {"train_identities": random_half(seed)},
)
