"""P-DukeMTMC-reID."""

import os

from fastreid.data.datasets import DATASET_REGISTRY

from igoas_plugin.core.errors import InputError

from .layout import Layout
from .market_style import Item
from .published import GALLERY_CAMERA, QUERY_CAMERA, Counts, PublishedDataset, list_bodies

TRAIN_OCCLUDED, TRAIN_WHOLE = "train/occluded_body_images", "train/whole_body_images"
TRAIN_ALL = "bounding_box_train"  # of a copy in the style of Market-1501
TEST_OCCLUDED, TEST_WHOLE = "test/occluded_body_images", "test/whole_body_images"


@DATASET_REGISTRY.register()
class PDukeMTMC(PublishedDataset):
    """P-DukeMTMC-reID, images of DukeMTMC-reID sorted by whether the person is occluded::

        <root>/P-DukeMTMC-reid/train/occluded_body_images/<identity>/<identity>_<..>_<..>.jpg
        <root>/P-DukeMTMC-reid/train/whole_body_images/...
        <root>/P-DukeMTMC-reid/test/occluded_body_images/...
        <root>/P-DukeMTMC-reid/test/whole_body_images/...

    An evaluation needs the test half alone.

    Another layout that is read: a copy in the style of Market-1501, ``{bounding_box_train,query,bounding_box_test}``,
    also inside a folder ``format``, with the occluded and the whole training images in one folder.

    Protocol: occluded images are the queries, whole images the gallery; Rank-k and mAP. As in the code of PVPM and
    IGOAS, all occluded images have one camera and all whole images another, so that a whole image of the query's real
    camera is ranked too.

    Source: Zhuo et al., *Occluded Person Re-Identification*, ICME 2018; repository
    ``tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets``, file ``P-DukeMTMC-reid.zip``. Protocol:
    ``torchreid/data/datasets/image/pduke_reid.py`` of ``hh23333/PVPM`` and of ``Vill-Lab/2021-TIP-IGOAS``.

    Terms: academic or educational use, not commercial. Cite the paper. The repository holds a user agreement. The
    images are those of DukeMTMC, which was withdrawn over the privacy of the people shown.
    """

    dataset_name = "pdukemtmc"
    first_camera = None  # made up
    layout = Layout(
        "PDukeMTMC",
        "P-DukeMTMC-reid",
        {
            TRAIN_OCCLUDED: (),
            TRAIN_WHOLE: (),
            TRAIN_ALL: (),
            TEST_OCCLUDED: ("query",),
            TEST_WHOLE: ("bounding_box_test",),
        },
        ("P-DukeMTMC",),
        origin="tools/prepare_data.py PDukeMTMC makes it from P-DukeMTMC-reid.zip of "
        "github.com/tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets",
    )
    # counts that papers report; together they are the 24,143 images and 1,299 identities of the authors
    published = {"train": Counts(12927, 665), "query": Counts(2163, 634), "gallery": Counts(9053, 634)}

    @classmethod
    def needed(cls) -> list[str]:
        """Returns the parts of the test half."""
        return [TEST_OCCLUDED, TEST_WHOLE]

    def read(self, split: str) -> list[Item]:
        """Returns the images of a split; the training set is empty if only the test half is there."""
        if split == "query":
            return list_bodies(self.parts[TEST_OCCLUDED], QUERY_CAMERA)
        if split == "gallery":
            return list_bodies(self.parts[TEST_WHOLE], GALLERY_CAMERA)
        missing = [part for part in (TRAIN_OCCLUDED, TRAIN_WHOLE) if part not in self.parts]
        if len(missing) == 2:
            return list_bodies(self.parts[TRAIN_ALL], QUERY_CAMERA) if TRAIN_ALL in self.parts else []
        if missing:
            folder = os.path.join(os.path.abspath(self.dataset_dir), missing[0])
            raise InputError(
                f"{type(self).__name__}: there is no folder {folder}: put it beside the other half of the training "
                "images"
            )
        return [
            *list_bodies(self.parts[TRAIN_OCCLUDED], QUERY_CAMERA),
            *list_bodies(self.parts[TRAIN_WHOLE], GALLERY_CAMERA),
        ]
