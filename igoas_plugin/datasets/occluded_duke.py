"""Occluded-Duke: the benchmark of occluded person re-identification."""

import functools
import logging
import os

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from ..errors import InputError
from .market_style import SUBSETS, Item, list_images

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are

# Counted in the official name lists: images and identities of each subset.
OFFICIAL = {"bounding_box_train": (15618, 702), "query": (2210, 519), "bounding_box_test": (17661, 1110)}


@DATASET_REGISTRY.register()
class OccludedDuke(ImageDataset):
    """Occluded-Duke (Occluded-DukeMTMC), as the authors' converter lays it out::

        <root>/Occluded_Duke/bounding_box_train/0001_c2_f0046182.jpg     (identity 1, camera 2, frame 46182)
        <root>/Occluded_Duke/query/...
        <root>/Occluded_Duke/bounding_box_test/...

    ========  ======  ==========  =======
    subset    images  identities  cameras
    ========  ======  ==========  =======
    train     15,618         702        8
    query      2,210         519        8
    gallery   17,661       1,110        8
    ========  ======  ==========  =======

    Protocol: every query image is occluded, and so are 10 % of the gallery and 9 % of the training images (PGFA,
    section 3.2). Gallery images of the query's identity in the query's camera are left out of the ranking; Rank-k and
    mAP are reported. Counts that differ from the official ones give a warning: such figures do not compare with
    published ones.

    Source: Miao et al., *Pose-Guided Feature Alignment for Occluded Person Re-Identification* (PGFA), ICCV 2019. The
    name lists and the converter, ``convert_duke_to_occduke.py``, are in the repository
    ``lightas/Occluded-DukeMTMC-Dataset``; the images are those of DukeMTMC-reID (Zheng et al., ICCV 2017; Ristani et
    al., ECCVW 2016).

    Terms: those of DukeMTMC-reID: CC BY-NC-SA 4.0, for academic research, the works above cited and the licence kept
    with the data. DukeMTMC was withdrawn over the privacy of those shown, and nothing here downloads it: bring a copy
    that you may use.

    Args:
        root: the folder that holds the data sets; the host passes the environment variable FASTREID_DATASETS.
        kwargs: of the host's ImageDataset.

    Raises:
        InputError: no folder of this data set is in `root`, a subset is missing, or a file name cannot be read.
    """

    dataset_name = "occludedduke"
    folders = ("Occluded_Duke", "Occluded-DukeMTMC-reID", "Occluded-DukeMTMC", "occluded_duke")  # names in circulation

    def __init__(self, root: str = "datasets", **kwargs):
        self.dataset_dir = self._find(root)
        super().__init__(
            lambda: self._read("bounding_box_train"),
            lambda: self._read("query"),
            lambda: self._read("bounding_box_test"),
            **kwargs,
        )

    def _find(self, root: str) -> str:
        candidates = [os.path.join(root, folder) for folder in self.folders]
        found = next(filter(os.path.isdir, candidates), candidates[0])
        for missing in (found, *(os.path.join(found, subset) for subset in SUBSETS)):
            if not os.path.isdir(missing):
                raise InputError(
                    f"OccludedDuke: there is no folder {os.path.abspath(missing)}: set the environment variable "
                    f"FASTREID_DATASETS to the folder that holds {self.folders[0]}/, and put your copy there, with "
                    f"{', '.join(SUBSETS)} inside (DukeMTMC is withdrawn: nothing can be downloaded; "
                    "convert_duke_to_occduke.py of github.com/lightas/Occluded-DukeMTMC-Dataset makes it from "
                    "DukeMTMC-reID)"
                )
        return found

    def _read(self, subset: str) -> list[Item]:
        folder = os.path.join(self.dataset_dir, subset)
        items = list_images(folder, self.dataset_name if subset == "bounding_box_train" else None)
        found = (len(items), len({identity for _, identity, _ in items}))
        if found != OFFICIAL[subset]:
            _warn_once(
                f"OccludedDuke: {os.path.abspath(folder)} holds {found[0]} images of {found[1]} identities, the "
                f"official {subset} {OFFICIAL[subset][0]} of {OFFICIAL[subset][1]}: results do not compare with "
                "published ones"
            )
        return items


@functools.cache
def _warn_once(message: str) -> None:
    """The host builds a data set anew for every evaluation: the same line is not repeated."""
    logger.warning(message)
