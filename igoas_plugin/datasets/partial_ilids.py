"""Partial-iLIDS, with its protocols."""

from fastreid.data.datasets import DATASET_REGISTRY

from .layout import Layout
from .published import BodyImages, Counts

CROPPED, UNCROPPED, WHOLE = "Probe", "partial_iLIDS_Probe_nocrop", "Gallery"


@DATASET_REGISTRY.register()
class PartialiLIDS(BodyImages):
    """Partial-iLIDS with cropped queries, the protocol of most papers::

        <root>/Partial_iLIDS/Probe/12.jpg                          (identity 12, the visible part, cut out)
        <root>/Partial_iLIDS/partial_iLIDS_Probe_nocrop/12.jpg     (the same image uncut)
        <root>/Partial_iLIDS/Gallery/12.jpg                        (whole)

    Other layouts that are read: ``{partial,whole}_body_images``, and that of fast-reid's PartialReID project,
    ``PartialiLIDS/{query,gallery}``.

    Protocol, for testing only, by a model trained elsewhere (mostly on Market-1501): single shot, as each of the 119
    identities has one gallery image; Rank-k. PartialiLIDSUncropped takes the uncut images as queries.

    Source: He et al., *Deep Spatial Feature Reconstruction for Partial Person Re-Identification* (DSR), CVPR 2018,
    after Zheng et al., CVPR 2011; the images are those of i-LIDS. ``Partial_iLIDS.zip`` is in ``dataset.zip`` of
    repository ``lightas/ICCV19_Pose_Guided_Occluded_Person_ReID``.

    Terms: none are stated with the archive. i-LIDS is for research use under licence of the UK Home Office.
    """

    dataset_name = "partialilids"
    layout = Layout(
        "PartialiLIDS",
        "Partial_iLIDS",
        {CROPPED: ("partial_body_images", "query"), UNCROPPED: (), WHOLE: ("whole_body_images",)},
        origin="tools/prepare_data.py PartialiLIDS makes it from dataset.zip of "
        "github.com/lightas/ICCV19_Pose_Guided_Occluded_Person_ReID",
    )
    published = {"query": Counts(119, 119), "gallery": Counts(119, 119)}
    query_part, gallery_part = CROPPED, WHOLE


@DATASET_REGISTRY.register()
class PartialiLIDSUncropped(PartialiLIDS):
    """Partial-iLIDS with the uncut images as queries, ``partial_iLIDS_Probe_nocrop``; otherwise as PartialiLIDS."""

    dataset_name = "partialilidsuncropped"
    query_part = UNCROPPED
