import hashlib
import os

import numpy as np
import pytest
import torch
from fastreid.engine import DefaultTrainer
from numpy.testing import assert_allclose
from PIL import Image

import igoas_plugin
from igoas_plugin.core.errors import InputError
from igoas_plugin.evaluation.descriptors import describe
from igoas_plugin.inference.fingerprint import Fingerprint, fingerprint
from igoas_plugin.inference.predictor import reference_pictures
from igoas_plugin.modeling.fast_inference import for_evaluation


@pytest.fixture
def saved(igoas_cfg, tmp_path):
    """Config, model, and the checkpoint of its weights."""
    model = DefaultTrainer.build_model(igoas_cfg).eval()
    path = tmp_path / "model.pth"
    torch.save({"model": model.state_dict()}, path)
    return igoas_cfg, model, path


def described(cfg, model) -> tuple[list[str], np.ndarray]:
    """Paths of the test images of TinyReID, and their descriptors as an evaluation computes them."""
    data = DefaultTrainer.build_test_loader(cfg, "TinyReID")[0].dataset
    paths = [image_path for image_path, _, _ in data.img_items]
    return paths, torch.nn.functional.normalize(describe(cfg, model, data)["feats"]).numpy()


@pytest.mark.parametrize("keys", [[], ["TEST.FLIP.ENABLED", True], ["TEST.IMS_PER_BATCH", 3]])
def test_descriptors_are_those_of_an_evaluation(saved, keys):
    cfg, model, path = saved
    cfg.merge_from_list(keys)
    paths, expected = described(cfg, model)
    found = igoas_plugin.Predictor(cfg, path)(paths)
    assert_allclose(found, expected, rtol=0, atol=1e-5)  # float32 rounds differently in batches of another size
    assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)  # rounding of 64 squares and their sum


def test_fast_descriptors_are_those_of_a_fast_evaluation(saved, dtype_of_cpu):
    cfg, model, path = saved
    cfg.merge_from_list(["TEST.FLIP.ENABLED", True, "TEST.FAST", True])
    paths, expected = described(cfg, for_evaluation(cfg, model))
    predictor = igoas_plugin.Predictor(cfg, path)
    found = predictor(paths)
    assert predictor.model.dtype == (None if dtype_of_cpu == torch.float32 else dtype_of_cpu)
    assert found.dtype == np.float32
    # Both compute in the same dtype, but sums in another order round differently: float32 by 1e-7 of a value,
    # bfloat16, with 8 bits, by 1/256.
    assert_allclose(found, expected, rtol=0, atol=2**-8 if dtype_of_cpu == torch.bfloat16 else 1e-5)


def test_paths_and_arrays_of_any_size_may_be_mixed(saved, tmp_path):
    cfg, _, path = saved
    pixels = np.random.default_rng(0).integers(0, 256, (50, 21, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    predictor = igoas_plugin.Predictor(cfg, path)
    found = predictor([pixels, str(tmp_path / "a.png"), tmp_path / "a.png"])
    assert found.shape == (3, predictor.width) and found.dtype == np.float32
    assert_allclose(found[1:], found[:1].repeat(2, 0), rtol=0, atol=1e-5)  # rounding differs with the place in a batch
    assert predictor([]).shape == (0, predictor.width)


@pytest.mark.parametrize(
    "pictures, message",
    [
        ("a.jpg", "give the predictor a list of pictures"),
        (np.zeros((8, 4, 3), np.uint8), "give the predictor a list of pictures"),
        ([np.zeros((8, 4, 3), np.float32)], r"of shape \(H, W, 3\) and type uint8, got \(8, 4, 3\), float32"),
        ([np.zeros((8, 4), np.uint8)], r"got \(8, 4\), uint8"),
        ([np.zeros((0, 4, 3), np.uint8)], r"^pictures\[0\] is empty: an array of shape \(0, 4, 3\); leave it out$"),
        ([Image.new("RGB", (4, 8))], r"^pictures\[0\] must be a path or an RGB array of NumPy, got Image"),
        (["none.jpg"], "none.jpg cannot be read: there is no such file"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(saved, pictures, message):
    cfg, _, path = saved
    with pytest.raises(InputError, match=message):
        igoas_plugin.Predictor(cfg, path)(pictures)


def test_an_empty_crop_is_named_with_its_position_before_the_model_works(saved, monkeypatch):
    cfg, _, path = saved
    predictor = igoas_plugin.Predictor(cfg, path)
    monkeypatch.setattr(predictor, "describe", None)  # whose call would raise a TypeError
    crops = [np.zeros((8, 4, 3), np.uint8)] * 500
    for position, shape in ((499, (8, 0, 3)), (37, (0, 0, 3))):
        crops[position] = np.zeros(shape, np.uint8)
        with pytest.raises(InputError, match=rf"^pictures\[{position}\] is empty: an array of shape"):
            predictor(iter(crops))


def test_the_reference_pictures_are_the_same_everywhere():
    pictures = np.stack(reference_pictures())
    assert pictures.shape == (3, 128, 64, 3) and pictures.dtype == np.uint8
    assert hashlib.sha256(pictures.tobytes()).hexdigest()[:8] == "64703331"


def test_weights_are_asked_for_and_must_fit(saved, tmp_path):
    cfg, _, path = saved
    with pytest.raises(InputError, match="MODEL.WEIGHTS is empty"):
        igoas_plugin.Predictor(cfg)
    cfg.TEST.IMS_PER_BATCH = -1
    with pytest.raises(InputError, match="TEST.IMS_PER_BATCH"):
        igoas_plugin.Predictor(cfg, path)
    cfg.TEST.IMS_PER_BATCH = 8
    with pytest.raises(InputError, match="none.pth does not exist"):
        igoas_plugin.Predictor(cfg, tmp_path / "none.pth")
    with pytest.raises(InputError, match="does not fit the model"):
        igoas_plugin.Predictor(os.path.join(os.path.dirname(__file__), "../../configs/Toy/bagtricks_R18.yml"), path)


def test_loading_says_nothing_of_classifiers_that_nobody_asks(saved, host_log):
    cfg, _, path = saved
    cfg.MODEL.HEADS.NUM_CLASSES = 0
    igoas_plugin.Predictor(cfg, path)
    assert not [record for record in host_log.records if "classifier" in record.getMessage()]


def test_the_fingerprint_is_that_of_weights_and_of_keys_that_a_descriptor_depends_on(saved):
    cfg, model, path = saved
    own = igoas_plugin.Predictor(cfg, path).fingerprint
    cfg.merge_from_list(
        ["TEST.FAST", True, "MODEL.LOSSES.CE.EPSILON", 0.2, "SOLVER.MAX_EPOCH", 7, "MODEL.DEVICE", "cpu"]
    )
    assert igoas_plugin.Predictor(cfg, path).fingerprint == own
    cfg.merge_from_list(["INPUT.SIZE_TEST", [64, 32], "MODEL.IGOAS.DESCRIPTOR", "global", "INPUT.CROP.ENABLED", True])
    with torch.no_grad():
        model.backbone.conv1.weight.add_(1e-3)
    differences = own.differences(fingerprint(cfg, model))
    assert differences == [
        "INPUT.CROP.ENABLED None and True", "INPUT.CROP.RATIO None and [0.75, 1.3333333333333333]",
        "INPUT.CROP.SCALE None and [0.16, 1]", "INPUT.CROP.SIZE None and [224, 224]",
        "INPUT.SIZE_TEST [32, 16] and [64, 32]", "MODEL.IGOAS.DESCRIPTOR joint and global", "other weights",
    ]  # fmt: skip


def test_the_fingerprint_knows_nothing_of_classifiers_and_wrappers(saved):
    cfg, model, _ = saved
    own = fingerprint(cfg, model)
    with torch.no_grad():
        model.heads.joint_classifier.weight.add_(1)
    assert fingerprint(cfg, model) == own
    assert Fingerprint.from_json(own.as_json()) == own
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "OcclusionWrapper", "MODEL.OCCLUSION.WRAPS", "IGOAS"])
    assert fingerprint(cfg, model) == own
