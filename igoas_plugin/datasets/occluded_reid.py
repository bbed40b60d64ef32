"""Occluded-REID, with its protocols."""

import numpy as np
from fastreid.data.datasets import DATASET_REGISTRY

from .body_images import BodyImages
from .layout import Layout
from .market_style import Item
from .published import Counts, Numbered, register_draws

OCCLUDED, WHOLE = "occluded_body_images", "whole_body_images"
IDENTITIES = range(1, 201)


@DATASET_REGISTRY.register()
class OccludedREID(Numbered, BodyImages):
    """Occluded-REID, for testing alone: all 200 identities, trained elsewhere (as a rule on Market-1501)::

        <root>/Occluded_REID/occluded_body_images/001/001_01.tif     (identity 1, image 1)
        <root>/Occluded_REID/whole_body_images/001/001_01.tif

    ========  ======  ==========  ======================================================
    subset    images  identities  cameras
    ========  ======  ==========  ======================================================
    query      1,000         200  none in the data; 1 here  (occluded, 5 of each identity)
    gallery    1,000         200  none in the data; 1 here  (whole, 5 of each identity)
    ========  ======  ==========  ======================================================

    Read as well: one flat folder a part, numbers that scripts of other projects put into the names (``001_c1_01.tif``),
    and the layout of the host's PartialReID project, ``OccludedREID/{query,gallery}``.

    Protocol: occluded images are the queries, whole ones the gallery, Rank-k and mAP. The images were taken by moving
    cameras, and their names tell none: query and gallery get different ones here, so no image is left out of the
    ranking.

    Source: Zhuo et al., *Occluded Person Re-Identification*, ICME 2018; repository
    ``tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets``, file ``Occluded_REID.zip``.

    Terms: academic or educational use, not commercial; the paper is to be cited; a user agreement is in the repository.

    Args:
        root: the folder that holds the data sets; the host passes the environment variable FASTREID_DATASETS.
        kwargs: of the host's ImageDataset.

    Raises:
        InputError: no folder of this data set is in `root`, a subset is missing, or a file name cannot be read.
    """

    dataset_name = "occludedreid"
    layout = Layout(
        "Occluded-REID",
        "Occluded_REID",
        {OCCLUDED: ("query",), WHOLE: ("gallery",)},
        origin="tools/prepare_data.py occluded-reid makes it from Occluded_REID.zip of "
        "github.com/tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets",
    )
    published = {"query": Counts(1000, 200), "gallery": Counts(1000, 200)}
    query_part, gallery_part = OCCLUDED, WHOLE


@DATASET_REGISTRY.register()
class OccludedREIDHalfSplit(OccludedREID):
    """Occluded-REID, half of the identities for training: the fixed half of IGOAS's released code.

    ========  ======  ==========  =======================================================
    subset    images  identities
    ========  ======  ==========  =======================================================
    train      1,000         100  identities 88 to 187, occluded and whole
    query        500         100  the other identities, occluded
    gallery      500         100  the other identities, whole
    ========  ======  ==========  =======================================================

    The paper reports the mean of 10 random halves: OccludedREIDHalfSplit0 to OccludedREIDHalfSplit9.
    Layout, source and terms are those of OccludedREID, and so are the arguments. Figures do not compare with those of
    OccludedREID, which is trained elsewhere and has all 200 identities in query and gallery.

    Source: ``torchreid/data/datasets/image/occludedreid.py`` of repository ``Vill-Lab/2021-TIP-IGOAS``.

    Args:
        root: the folder that holds the data sets.
        kwargs: of the host's ImageDataset.

    Raises:
        InputError: as OccludedREID.
    """

    dataset_name = "occludedreidhalfsplit"
    train_identities = frozenset(range(88, 188))
    published = {"train": Counts(1000, 100), "query": Counts(500, 100), "gallery": Counts(500, 100)}

    def _read(self, split: str) -> list[Item]:
        training = split == "train"
        items = super()._read("query") + super()._read("gallery") if training else super()._read(split)
        return [item for item in items if (item[1] in self.train_identities) == training]

    def _identities(self, split: str) -> list[int]:
        return [number for number in IDENTITIES if (number in self.train_identities) == (split == "train")]


def random_half(seed: int) -> frozenset[int]:
    """100 of the 200 identities, drawn without replacement; the same for a seed on every machine.

    Args:
        seed: 0 to 2**32 - 1, of numpy's RandomState, whose streams numpy keeps as they are.

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
