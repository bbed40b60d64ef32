"""Partial-REID, with its protocols."""

import numpy as np
from fastreid.data.datasets import DATASET_REGISTRY

from .layout import Layout
from .market_style import Item
from .published import BodyImages, Counts, register_draws

OCCLUDED, PARTIAL, WHOLE = "occluded_body_images", "partial_body_images", "whole_body_images"


@DATASET_REGISTRY.register()
class PartialREID(BodyImages):
    """Partial-REID with partial queries, the protocol of most papers::

        <root>/Partial-REID_Dataset/occluded_body_images/006_004.jpg     (identity 6, image 4)
        <root>/Partial-REID_Dataset/partial_body_images/006_004.jpg
        <root>/Partial-REID_Dataset/whole_body_images/006_004.jpg

    Each of the 60 identities has 5 images of each kind. A partial image is the visible part, cut out.

    fast-reid's PartialReID project registers the same name. It reads ``Partial_REID/`` and takes the second number of a
    file name for the camera, so that the whole-body image with the query's number drops out of the ranking. Here query
    and gallery get one camera each and no image is left out, so the figures differ from those of that project.

    Protocol, for testing only, by a model trained elsewhere (mostly on Market-1501): Rank-k and mAP over all five whole
    images of an identity. PartialREIDOccluded takes the occluded images as queries, as some papers do without saying
    so. PartialREIDSingleShot0 to PartialREIDSingleShot9 have one whole image of each identity.

    Source: Zheng et al., *Partial Person Re-Identification*, ICCV 2015; ``Partial-REID_Dataset.rar`` of Sun Yat-sen
    University, which is also in ``dataset.zip`` of repository ``lightas/ICCV19_Pose_Guided_Occluded_Person_ReID``.

    Terms: its Readme.txt asks to cite the paper and states nothing else; treat it as for research use.
    """

    dataset_name = "partialreid"
    layout = Layout(
        "PartialREID",
        "Partial-REID_Dataset",
        {OCCLUDED: (), PARTIAL: ("query",), WHOLE: ("gallery",)},
        ("Partial_REID",),
        origin="tools/prepare_data.py PartialREID makes it from Partial-REID_Dataset.rar, or from dataset.zip of "
        "github.com/lightas/ICCV19_Pose_Guided_Occluded_Person_ReID",
    )
    published = {"query": Counts(300, 60), "gallery": Counts(300, 60)}
    query_part, gallery_part = PARTIAL, WHOLE


@DATASET_REGISTRY.register()
class PartialREIDOccluded(PartialREID):
    """Partial-REID with the occluded images as queries, 300 of 60 identities; otherwise as PartialREID.

    Source of the protocol: ``partialreid.py`` of ``Vill-Lab/2021-TIP-IGOAS``, and KPR's ``partial_reid.py``.
    """

    dataset_name = "partialreidoccluded"
    query_part = OCCLUDED


class PartialREIDSingleShot(PartialREID):
    """Base of the single-shot protocols, whose gallery has one whole image of each identity, drawn by `seed`."""

    published = {"query": Counts(300, 60), "gallery": Counts(60, 60)}
    seed: int

    def read(self, split: str) -> list[Item]:
        """Returns the images of query or gallery."""
        items = super().read(split)
        return items if split == "query" else single_shot(items, self.seed)


def single_shot(items: list[Item], seed: int) -> list[Item]:
    """Returns one item of each identity, drawn by numpy's RandomState, in the order of the identities."""
    random = np.random.RandomState(seed)
    by_identity = {}
    for item in items:
        by_identity.setdefault(item[1], []).append(item)
    return [shots[random.randint(len(shots))] for _, shots in sorted(by_identity.items())]


register_draws(
    PartialREIDSingleShot,
    "Partial-REID with one whole image of each identity in the gallery, drawn by seed {seed}.",
    lambda seed: {"seed": seed},
)
