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


def one_by_one(predictor, pictures) -> np.ndarray:
    """Returns the descriptors of pictures that are given to the predictor in lists of one."""
    return np.concatenate([predictor([picture]) for picture in pictures])


def test_one_picture_gives_one_row_and_every_form_of_many_the_same_rows(saved, tmp_path):
    cfg, _, path = saved
    cfg.TEST.IMS_PER_BATCH = 2
    predictor = igoas_plugin.Predictor(cfg, path)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 40, 21, 3), dtype=np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for each, image_path in zip(pixels, paths, strict=True):
        Image.fromarray(each).save(image_path)
    expected = one_by_one(predictor, paths)
    for picture in (paths[0], str(paths[0]), pixels[0], Image.open(paths[0])):
        assert_allclose(predictor(picture), expected[:1], rtol=0, atol=1e-5)  # see above
    many = (
        paths,
        tuple(paths),
        np.array([str(each) for each in paths]),
        pixels,
        list(pixels),
        [Image.fromarray(each) for each in pixels],
        [paths[0], pixels[1], Image.fromarray(pixels[2]), str(paths[3]), pixels[4]],
        iter(paths),
        (Image.open(each) for each in paths),
        map(str, paths),
    )
    for pictures in many:
        assert_allclose(predictor(pictures), expected, rtol=0, atol=1e-5)
    assert predictor(iter(())).shape == predictor(pixels[:0]).shape == (0, predictor.width)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_an_image_of_pillow_of_any_mode_is_read_as_its_file(saved, tmp_path, mode):
    cfg, _, path = saved
    predictor = igoas_plugin.Predictor(cfg, path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 21, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("RGB")
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(file)
    before = image.copy()
    torch.testing.assert_close(predictor.read(image), predictor.read(file), rtol=0, atol=0)
    torch.testing.assert_close(predictor.read(Image.open(file)), predictor.read(file), rtol=0, atol=0)
    assert image.mode == before.mode and image.tobytes() == before.tobytes()


def test_an_image_of_pillow_is_rotated_by_its_exif_orientation_as_its_file(saved, tmp_path):
    cfg, _, path = saved
    predictor = igoas_plugin.Predictor(cfg, path)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 21, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    image.save(tmp_path / "a.png", exif=exif)
    opened = Image.open(tmp_path / "a.png")
    torch.testing.assert_close(predictor.read(opened), predictor.read(tmp_path / "a.png"), rtol=0, atol=0)
    assert not predictor.read(opened).equal(predictor.read(image)) and opened.size == (21, 40)


def test_only_one_batch_of_an_iterator_is_in_memory(saved, monkeypatch):
    cfg, _, path = saved
    cfg.TEST.IMS_PER_BATCH = 3
    predictor = igoas_plugin.Predictor(cfg, path)
    taken, described, describe = [], [], predictor.describe

    def pictures():
        for number in range(8):
            taken.append(number)
            yield np.full((8, 4, 3), number, np.uint8)

    def note(images):
        described.append((len(images), len(taken)))
        return describe(images)

    monkeypatch.setattr(predictor, "describe", note)
    assert len(predictor(pictures())) == 8
    assert described == [(3, 3), (3, 6), (2, 8)]  # images of a batch, pictures taken so far


@pytest.mark.parametrize(
    "pictures, message",
    [
        (torch.zeros(3, 8, 4), r"got Tensor: for an RGB tensor \(3, H, W\) in \[0, 255\] give tensor.permute"),
        ([torch.zeros(3, 8, 4)], r"^pictures\[0\] must be a path, .* got Tensor: for an RGB tensor"),
        (iter([torch.zeros(3, 8, 4)]), r"^pictures\[0\] must be a path, .* got Tensor: for an RGB tensor"),
        (None, "^the predictor takes a path, an RGB array of NumPy or an image of Pillow, or a list .* got NoneType$"),
        ({"a.jpg": 1}, "got dict$"),
        ({"a.jpg"}, "got set$"),
        (b"a.jpg", "got bytes$"),
        ([np.zeros((8, 4, 3), np.float32)], r"of shape \(H, W, 3\) and type uint8, got \(8, 4, 3\), float32"),
        (np.zeros((3, 8, 4), np.uint8), r"got \(3, 8, 4\), uint8"),
        (np.zeros((8, 4), np.uint8), r"^an array must be an RGB array .* got \(8, 4\), uint8"),
        (np.zeros((2, 3, 8, 4), np.uint8), r"^pictures\[0\] must be an RGB array .* got \(3, 8, 4\), uint8"),
        (np.zeros((2, 8, 4, 3), np.float32), r"^pictures\[0\] must be .* got \(8, 4, 3\), float32"),
        ([np.zeros((8, 4), np.uint8)], r"got \(8, 4\), uint8"),
        ([np.zeros((0, 4, 3), np.uint8)], r"^pictures\[0\] is empty: an array of shape \(0, 4, 3\); leave it out$"),
        (Image.new("RGB", (0, 8)), r"is empty: an image of Pillow of width and height \(0, 8\); leave it out$"),
        ("none.jpg", "none.jpg cannot be read: there is no such file"),
        (["none.jpg"], "none.jpg cannot be read: there is no such file"),
        (os.path.dirname(__file__), "inference is a folder: give the paths of its images, such as sorted"),
        ([os.path.dirname(__file__)], "inference is a folder: give the paths of its images, such as sorted"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(saved, pictures, message):
    cfg, _, path = saved
    with pytest.raises(InputError, match=message):
        igoas_plugin.Predictor(cfg, path)(pictures)


def test_a_torn_file_that_pillow_has_opened_is_named(saved, tmp_path):
    cfg, _, path = saved
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    with pytest.raises(InputError, match="a.jpg cannot be read: image file is truncated"):
        igoas_plugin.Predictor(cfg, path)(Image.open(tmp_path / "a.jpg"))


def test_an_empty_crop_is_named_with_its_position_before_the_model_works(saved, monkeypatch):
    cfg, _, path = saved
    predictor = igoas_plugin.Predictor(cfg, path)
    monkeypatch.setattr(predictor, "describe", None)  # whose call would raise a TypeError
    crops = [np.zeros((8, 4, 3), np.uint8)] * 500
    for position, shape in ((499, (8, 0, 3)), (37, (0, 0, 3))):
        crops[position] = np.zeros(shape, np.uint8)
        with pytest.raises(InputError, match=rf"^pictures\[{position}\] is empty: an array of shape"):
            predictor(crops)


def test_the_folder_of_a_run_gives_its_config_and_its_weights(saved, tmp_path, host_log):
    cfg, _, path = saved
    pixels, run = np.zeros((8, 4, 3), np.uint8), tmp_path / "a_run"
    run.mkdir()
    with pytest.raises(InputError, match="config.yaml does not exist: give the folder that tools/train_net.py wrote"):
        igoas_plugin.Predictor(run)
    with pytest.raises(InputError, match="nowhere does not exist: give the folder of a run, or a config in YAML"):
        igoas_plugin.Predictor(tmp_path / "nowhere")
    (run / "config.yaml").write_text(cfg.dump())
    with pytest.raises(InputError, match="a_run holds neither model_final.pth nor model_best.pth"):
        igoas_plugin.Predictor(str(run))
    expected = igoas_plugin.Predictor(cfg, path)(pixels)
    assert_allclose(igoas_plugin.Predictor(run, path)(pixels), expected, rtol=0, atol=0)  # weights of one's own
    for name in ("model_best.pth", "model_final.pth"):  # the second is preferred
        (run / name).write_bytes(path.read_bytes())
        host_log.clear()
        assert_allclose(igoas_plugin.Predictor(str(run))(pixels), expected, rtol=0, atol=0)
        assert [f"takes {run / name}: the run's" in each.getMessage() for each in host_log.records].count(True) == 1


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
