import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import pickle
import random
import warnings

import numpy as np
import pytest
import torch
import torchvision.transforms
from fastreid.config import get_cfg
from fastreid.data.transforms import ToTensor, autoaugment, build_transforms, functional
from PIL import Image

from igoas_plugin.fastreid_fixes.transforms import RandomAffine

TRANSFORMS = ("CROP", "AUTOAUG", "PADDING", "FLIP", "CJ", "AFFINE", "AUGMIX", "REA", "RPT")


def some_image(height: int = 90, width: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8))


def with_transforms(*names: str):
    cfg = get_cfg()
    cfg.INPUT.SIZE_TRAIN, cfg.INPUT.CROP.SIZE = [64, 32], [64, 32]
    cfg.INPUT.FLIP.ENABLED = False
    for name in names:
        cfg.INPUT[name].ENABLED = True
        if "PROB" in cfg.INPUT[name]:
            cfg.INPUT[name].PROB = 1.0
    return build_transforms(cfg)


@pytest.fixture
def seeded():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)


def test_without_the_plugin_affine_fails(raw_host):
    assert raw_host["affine"].startswith("TypeError") and "resample" in raw_host["affine"]


@pytest.mark.parametrize("names", [(name,) for name in TRANSFORMS] + [TRANSFORMS], ids="+".join)
def test_every_transform_of_fast_reid_changes_a_pillow_image_without_a_warning(names, seeded):
    transforms, plain = with_transforms(*names), with_transforms()(some_image())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [transforms(some_image()) for _ in range(120)]  # RPT collects 100 patches before it starts
    for result in results:
        assert result.shape == (3, 64, 32) and result.dtype == torch.float32
        assert torch.isfinite(result).all()
    assert any(not torch.equal(result, plain) for result in results)


def test_test_images_are_resized_and_cropped_at_the_centre():
    cfg = get_cfg()
    cfg.INPUT.SIZE_TEST, cfg.INPUT.CROP.SIZE, cfg.INPUT.CROP.ENABLED = [64, 32], [48, 16], True
    cropped = build_transforms(cfg, is_train=False)(some_image())
    cfg.INPUT.CROP.ENABLED = False
    torch.testing.assert_close(cropped, build_transforms(cfg, is_train=False)(some_image())[:, 8:56, 8:24])


@pytest.mark.parametrize("policy", ["original", "originalr"])
def test_every_operation_of_autoaugment_runs(policy, seeded):
    for pair in autoaugment.auto_augment_policy(policy):
        for operation in pair:
            operation.prob = 1.0
            result = operation(some_image())
            assert result.size == (40, 90) and result.mode == "RGB"


@pytest.mark.parametrize("severity", [1, 3])
def test_every_operation_of_augmix_runs(severity, seeded):
    others = [functional.color, functional.contrast, functional.brightness, functional.sharpness]
    for operation in functional.augmentations + others:
        result = operation(some_image(), severity)
        assert result.size == (40, 90) and result.mode == "RGB"


def test_affine_is_what_torchvision_does_with_the_same_settings():
    ours = RandomAffine(degrees=10, translate=None, scale=[0.9, 1.1], shear=0.1, resample=False, fillcolor=0)
    theirs = torchvision.transforms.RandomAffine(degrees=10, scale=[0.9, 1.1], shear=0.1)
    for seed in range(5):
        torch.manual_seed(seed)
        result = ours(some_image())
        torch.manual_seed(seed)
        assert result == theirs(some_image())


def test_transforms_with_affine_can_be_sent_to_spawned_workers():
    transforms = pickle.loads(pickle.dumps(with_transforms("AFFINE")))
    assert transforms(some_image()).shape == (3, 64, 32)


def test_torchvision_itself_keeps_its_affine():
    assert torchvision.transforms.RandomAffine is not RandomAffine


def test_without_the_plugin_every_tensor_warns_and_black_and_white_fails_by_numpy_2(raw_host):
    assert "TypedStorage is deprecated" in raw_host["rgb_tensor"]["warnings"][0]
    assert ("Error" in str(raw_host["black_and_white_tensor"])) == (int(np.__version__.split(".")[0]) >= 2)


def test_tensors_have_the_values_of_fast_reid(raw_host):
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = ToTensor()(Image.fromarray(pixels))
    assert tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert tensor.tolist() == raw_host["rgb_tensor"]["values"]
    torch.testing.assert_close(ToTensor()(pixels), tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    "mode, expected, dtype",
    [
        ("1", [0, 255], torch.float32),
        ("L", [0, 200], torch.float32),
        ("I", [0, 200], torch.int32),
        ("I;16", [0, 200], torch.int16),
        ("F", [0, 200], torch.float32),
    ],
)
def test_single_channel_images_become_one_channel(mode, expected, dtype):
    image = Image.fromarray(np.array([[0, 200]], dtype=np.uint8)).convert(mode)
    tensor = ToTensor()(image)
    assert tensor.tolist() == [[expected]]
    assert tensor.dtype == dtype
