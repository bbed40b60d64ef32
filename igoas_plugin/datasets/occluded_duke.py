"""Occluded-Duke, the benchmark of occluded person re-identification."""

import os
from collections import Counter

from fastreid.data.datasets import DATASET_REGISTRY

from .layout import Layout
from .market_style import SUBSETS, Item, list_images
from .occluded_duke_names import official_names
from .published import SPLITS, Counts, PublishedDataset

FOLDERS = dict(zip(SPLITS, SUBSETS, strict=True))


@DATASET_REGISTRY.register()
class OccludedDuke(PublishedDataset):
    """Occluded-Duke (Occluded-DukeMTMC) in the layout of the authors' converter::

        <root>/Occluded_Duke/bounding_box_train/0001_c2_f0046182.jpg     (identity 1, camera 2, frame 46182)
        <root>/Occluded_Duke/query/...
        <root>/Occluded_Duke/bounding_box_test/...

    ``python tools/prepare_data.py OccludedDuke --source PATH`` makes it from a copy of DukeMTMC-reID.

    Protocol: every query image is occluded, and so are 10 % of the gallery and 9 % of the training images (PGFA,
    section 3.2). Gallery images of the query's identity in the query's camera are left out of the ranking. Rank-k and
    mAP are reported. Counts that differ from the official ones give a warning.

    Source: Miao et al., *Pose-Guided Feature Alignment for Occluded Person Re-Identification* (PGFA), ICCV 2019. The
    name lists come from the repository ``lightas/Occluded-DukeMTMC-Dataset``; the images are those of DukeMTMC-reID
    (Zheng et al., ICCV 2017; Ristani et al., ECCVW 2016).

    Terms: those of DukeMTMC-reID: CC BY-NC-SA 4.0, for academic research, with the works above cited and the licence
    kept with the data. DukeMTMC was withdrawn over the privacy of the people shown. Nothing here downloads it: bring a
    copy that you may use.
    """

    dataset_name = "occludedduke"
    first_camera = 1
    layout = Layout(
        "OccludedDuke",
        "Occluded_Duke",
        dict.fromkeys(SUBSETS, ()),
        ("Occluded-DukeMTMC-reID", "Occluded-DukeMTMC"),
        origin="DukeMTMC is withdrawn: nothing can be downloaded; tools/prepare_data.py OccludedDuke makes it from "
        "DukeMTMC-reID by the name lists of github.com/lightas/Occluded-DukeMTMC-Dataset",
    )
    # counted in the official name lists
    published = {"train": Counts(15618, 702, 8), "query": Counts(2210, 519, 8), "gallery": Counts(17661, 1110, 8)}

    def read(self, split: str) -> list[Item]:
        """Returns the images of a split."""
        return list_images(self.parts[FOLDERS[split]])

    def _missing(self, split: str, images: Counter) -> str:
        """Returns the number of official images that are missing, as the rest of a sentence."""
        there = {os.path.splitext(name)[0] for name in os.listdir(self.parts[FOLDERS[split]])}  # also as .png
        missing = [name for name in official_names(FOLDERS[split]) if os.path.splitext(name)[0] not in there]
        return f"; {len(missing)} official images are missing, such as {missing[0]}" if missing else ""
