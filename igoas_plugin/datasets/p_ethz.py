"""P-ETHZ."""

import os

from fastreid.data.datasets import DATASET_REGISTRY

from .layout import Layout
from .market_style import Item
from .published import BodyImages, Counts

OCCLUDED, WHOLE = "occluded_body_images", "whole_body_images"
IMAGES = 3897  # occluded and whole together; their separate numbers are not published


@DATASET_REGISTRY.register()
class PETHZ(BodyImages):
    """P-ETHZ, images of the ETHZ data set sorted by whether the person is occluded::

        <root>/P_ETHZ/occluded_body_images/<identity>/<identity>_<..>.png
        <root>/P_ETHZ/whole_body_images/...

    3,897 images of 85 identities, 1 to 30 occluded and 1 to 30 whole images of each. The cameras moved, and the names
    tell none.

    Protocol, for testing only: occluded images are the queries, whole images the gallery; Rank-k and mAP. Query and
    gallery get one camera each here, so that no image is left out of the ranking.

    Source: Zhuo et al., *Occluded Person Re-Identification*, ICME 2018; repository
    ``tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets``, file ``P_ETHZ.zip``; the images: Ess et al.,
    ICCV 2007, cut out by Schwartz and Davis, SIBGRAPI 2009. Protocol: ``torchreid/data/datasets/image/p_ETHZ.py`` of
    ``hh23333/PVPM``.

    Terms: academic or educational use, not commercial. Cite the paper. The repository holds a user agreement.
    """

    dataset_name = "pethz"
    layout = Layout(
        "PETHZ",
        "P_ETHZ",
        {OCCLUDED: ("query",), WHOLE: ("gallery",)},
        origin="tools/prepare_data.py PETHZ makes it from P_ETHZ.zip of "
        "github.com/tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets",
    )
    published = {"query": Counts(None, 85), "gallery": Counts(None, 85)}
    query_part, gallery_part = OCCLUDED, WHOLE

    def difference(self, split: str, items: list[Item]) -> str | None:
        """Returns what differs from the published counts, None if nothing does."""
        images = len(self.read("query")) + len(self.read("gallery"))
        if images != IMAGES:
            return f"{os.path.abspath(self.dataset_dir)} has {images} images, published are {IMAGES}"
        return super().difference(split, items)
