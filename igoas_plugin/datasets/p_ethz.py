"""P-ETHZ."""

import os

from fastreid.data.datasets import DATASET_REGISTRY

from .body_images import BodyImages
from .layout import Layout
from .market_style import Item
from .published import Counts

OCCLUDED, WHOLE = "occluded_body_images", "whole_body_images"
IMAGES = 3897  # occluded and whole together: how many are of which kind is not published


@DATASET_REGISTRY.register()
class PETHZ(BodyImages):
    """P-ETHZ, images of the ETHZ data set re-arranged by whether the person is occluded::

        <root>/P_ETHZ/occluded_body_images/<identity>/<identity>_<..>.png
        <root>/P_ETHZ/whole_body_images/...

    3,897 images of 85 identities, 1 to 30 occluded and 1 to 30 whole images of each; moving cameras, none in the names.

    Protocol: for testing alone: occluded images are the queries, whole ones the gallery, Rank-k and mAP; query and
    gallery get different cameras here, so no image is left out of the ranking.

    Source: Zhuo et al., *Occluded Person Re-Identification*, ICME 2018; repository
    ``tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets``, file ``P_ETHZ.zip``; the images: Ess et al.,
    ICCV 2007, cut out by Schwartz and Davis, SIBGRAPI 2009. Protocol: ``torchreid/data/datasets/image/p_ETHZ.py`` of
    ``hh23333/PVPM``.

    Terms: academic or educational use, not commercial; the paper is to be cited; a user agreement is in the repository.

    Args:
        root: the folder that holds the data sets; the host passes the environment variable FASTREID_DATASETS.
        kwargs: of the host's ImageDataset.

    Raises:
        InputError: no folder of this data set is in `root`, a subset is missing, or a file name cannot be read.
    """

    dataset_name = "pethz"
    layout = Layout(
        "P-ETHZ",
        "P_ETHZ",
        {OCCLUDED: ("query",), WHOLE: ("gallery",)},
        origin="tools/prepare_data.py p-ethz makes it from P_ETHZ.zip of "
        "github.com/tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets",
    )
    published = {"query": Counts(None, 85), "gallery": Counts(None, 85)}
    query_part, gallery_part = OCCLUDED, WHOLE

    def _difference(self, split: str, items: list[Item]) -> str | None:
        images = len(self._read("query")) + len(self._read("gallery"))
        if images != IMAGES:
            return f"{os.path.abspath(self.dataset_dir)} has {images} images, published are {IMAGES}"
        return super()._difference(split, items)
