"""Export to ONNX: a file is only written if its descriptors equal those of PyTorch."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from backbones import SMALLEST
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from saved_models import saved_igoas, saved_model
from torch import nn
from torch_versions import writes_onnx

import igoas_plugin
from igoas_plugin.core.errors import InputError
from igoas_plugin.inference import onnx_export
from igoas_plugin.inference.fingerprint import Fingerprint
from igoas_plugin.inference.onnx_export import export
from igoas_plugin.inference.onnx_predictor import session_of
from igoas_plugin.inference.predictor import Predictor

pytestmark = writes_onnx
ROOT = Path(__file__).parents[2]
DEVIATION = 1e-4  # largest difference to PyTorch


def shape_of(value) -> list:
    return [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]


def assert_gives_descriptors(path, cfg, dtype=np.uint8, atol=DEVIATION) -> None:
    """Returns a batch of another size than those that an export tries."""
    predictor = Predictor(cfg)
    images = np.random.default_rng(7).integers(0, 256, (3, 3, *cfg.INPUT.SIZE_TEST)).astype(dtype)
    (found,) = session_of(str(path)).run(["descriptors"], {"images": images})
    expected = predictor.describe(torch.from_numpy(images).float())
    assert found.dtype == np.float32 and found.shape == (3, predictor.width)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)  # rounding of 64 and more squares
    assert np.abs(expected[0] - expected[1]).max() > 10 * atol  # descriptors depend on the images


def test_both_branches_are_in_the_file(igoas_onnx):
    cfg, path = igoas_onnx
    assert_gives_descriptors(path, cfg)


def test_a_file_takes_any_batch_and_says_how_it_is_used(igoas_onnx):
    cfg, path = igoas_onnx
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    (images,), (descriptors,) = model.graph.input, model.graph.output
    assert (images.name, shape_of(images)) == ("images", ["batch", 3, 32, 16])
    assert (descriptors.name, shape_of(descriptors)) == ("descriptors", ["batch", 64])
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert model.ir_version == 8  # of opset 18; onnxruntime before 1.18 refuses the 10 that torch writes
    metadata = {each.key: each.value for each in model.metadata_props}
    assert metadata["plugin_version"] == igoas_plugin.__version__ and metadata["input"] == "uint8"
    assert json.loads(metadata["size"]) == [32, 16] and json.loads(metadata["descriptor_width"]) == 64
    assert json.loads(metadata["mean"]) == cfg.MODEL.PIXEL_MEAN and json.loads(metadata["std"]) == cfg.MODEL.PIXEL_STD
    assert [(each.domain, each.version) for each in model.opset_import] == [("", json.loads(metadata["opset"]))]
    assert Fingerprint.from_json(metadata["fingerprint"]) == Predictor(cfg).fingerprint


def test_a_file_tells_nothing_of_the_machine_that_made_it(igoas_onnx):
    content = Path(igoas_onnx[1]).read_bytes()
    assert not any(each in content for each in (str(ROOT).encode(), b"site-packages", b'File "'))


class Tiny(nn.Module):
    """Backbone of one layer, which torch cannot export if it branches on values."""

    def __init__(self, looks: bool):
        super().__init__()
        self.looks, self.convolution = looks, nn.Conv2d(3, 8, 3)

    def forward(self, images):
        found = self.convolution(images).relu()
        return -found if self.looks and found.mean() > 0 else found


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Makes a config of a fast-reid model with that backbone, and its checkpoint."""

    def make(looks=False, **keys):
        monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, "build_tiny", lambda cfg: Tiny(looks))
        return saved_model(tmp_path, MODEL__BACKBONE__NAME="build_tiny", MODEL__BACKBONE__FEAT_DIM=8, **keys)

    return make


def test_mirrored_images_are_described_too(tiny, tmp_path):
    cfg = tiny(TEST__FLIP__ENABLED=True)
    export(cfg, str(tmp_path / "model.onnx"))
    assert_gives_descriptors(tmp_path / "model.onnx", cfg)
    cfg.TEST.FLIP.ENABLED = False
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_gives_descriptors(tmp_path / "model.onnx", cfg)


def test_fast_or_compiled_models_are_exported_as_they_are_without_that(tmp_path):
    cfg = saved_igoas(
        tmp_path,
        MODEL__IGOAS__DESCRIPTOR="suppression",
        MODEL__IGOAS__COMPILE=True,
        TEST__FAST=True,
        INPUT__SIZE_TEST=[64, 32],
    )
    exported = export(cfg, str(tmp_path / "model.onnx"), "float32", opset=20)
    assert exported.difference <= DEVIATION and exported.description.opset == 20
    cfg.TEST.FAST = cfg.MODEL.IGOAS.COMPILE = False
    assert_gives_descriptors(tmp_path / "model.onnx", cfg, np.float32)


GEM = {"MODEL__HEADS__POOL_LAYER": "GeneralizedMeanPoolingP", "MODEL__HEADS__WITH_BNNECK": True}
RESNET = {"MODEL__BACKBONE__NAME": "build_resnet_backbone", "MODEL__BACKBONE__DEPTH": "18x"}
MODELS = {
    "IGOAS with instance norms": {
        "MODEL__META_ARCHITECTURE": "IGOAS",
        "MODEL__HEADS__NAME": "IGOASHead",
        "MODEL__HEADS__EMBEDDING_DIM": 32,
        "MODEL__BACKBONE__WITH_IBN": True,
        **RESNET,
    },
    "a wrapped Baseline": {"MODEL__META_ARCHITECTURE": "OcclusionWrapper", **GEM},
    "a Baseline with SE and non-local blocks": {
        "MODEL__BACKBONE__NAME": "build_resnet_backbone",
        "MODEL__BACKBONE__DEPTH": "50x",
        "MODEL__BACKBONE__FEAT_DIM": 2048,
        "MODEL__BACKBONE__WITH_NL": True,
        "MODEL__BACKBONE__WITH_SE": True,
        **GEM,
    },
    "a Baseline with ViT": {
        "MODEL__BACKBONE__NAME": "build_vit_backbone",
        "MODEL__BACKBONE__DEPTH": "small",
        "MODEL__BACKBONE__FEAT_DIM": 768,
    },
    "IGOAS with ViT": {
        "MODEL__META_ARCHITECTURE": "IGOAS",
        "MODEL__HEADS__NAME": "IGOASHead",
        "MODEL__HEADS__EMBEDDING_DIM": 32,
        "MODEL__BACKBONE__NAME": "build_vit_backbone",
        "MODEL__BACKBONE__DEPTH": "small",
    },
    "MGN": {
        "MODEL__META_ARCHITECTURE": "MGN",
        "MODEL__BACKBONE__NAME": "build_resnet_backbone",
        "MODEL__BACKBONE__DEPTH": "50x",
        "MODEL__BACKBONE__FEAT_DIM": 2048,
        "MODEL__HEADS__EMBEDDING_DIM": 16,
        "INPUT__SIZE_TEST": [96, 32],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_models_of_the_host(name, tmp_path):
    cfg = saved_model(tmp_path, **MODELS[name])
    export(cfg, str(tmp_path / "model.onnx"))
    assert_gives_descriptors(tmp_path / "model.onnx", cfg)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_igoas_with_each_family_of_backbones(name, tmp_path, monkeypatch):
    untrained = 1e-3  # this model magnifies rounding: float32 and float64 in PyTorch differ by up to 6e-5
    monkeypatch.setattr(onnx_export, "TOLERATED", untrained)
    size = {"INPUT__SIZE_TRAIN": [64, 32], "INPUT__SIZE_TEST": [64, 32]}
    cfg = saved_igoas(tmp_path, MODEL__BACKBONE__NAME=name, MODEL__BACKBONE__DEPTH=SMALLEST[name], **size)
    export(cfg, str(tmp_path / "model.onnx"))
    assert_gives_descriptors(tmp_path / "model.onnx", cfg, atol=untrained)


# Refusals


def cache_of_one(function):
    """Returns the function with a cache of its first result."""
    results = []

    def cached(*args):
        if not results:
            results.append(function(*args))
        return results[0]

    return cached


def test_a_file_of_other_descriptors_is_not_written_and_one_that_is_there_stays(tiny, tmp_path, monkeypatch):
    cfg, path = tiny(), tmp_path / "model.onnx"
    path.write_text("of before")
    monkeypatch.setattr(onnx_export, "onnx_model", cache_of_one(onnx_export.onnx_model))  # torch exports it once
    monkeypatch.setattr(onnx_export, "described_by_onnx", lambda session, images: np.full((len(images), 8), 0.5))
    with pytest.raises(InputError, match=r"differ from PyTorch's by \d\S*, more than 0.0001: \S*model.onnx is not wr"):
        export(cfg, str(path))
    monkeypatch.setattr(onnx_export, "described_by_onnx", lambda session, images: np.full((len(images), 8), np.nan))
    with pytest.raises(InputError, match="differ from PyTorch's by nan"):
        export(cfg, str(path))
    assert path.read_text() == "of before" and len(list(tmp_path.iterdir())) == 2  # this and the weights


def test_a_model_that_torch_cannot_export_is_one_line(tiny, tmp_path, capfd):
    with pytest.raises(InputError, match="cannot export this model to ONNX: .*data-dependent") as caught:
        export(tiny(looks=True), str(tmp_path / "model.onnx"))
    assert "\n" not in str(caught.value) and not (tmp_path / "model.onnx").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "given, message",
    [
        ({"opset": 17}, r"the opset must be 18 to \d\d, got 17"),
        ({"opset": 99}, r"the opset must be 18 to \d\d, got 99"),
        ({"input_type": "int8"}, "the type of the input must be uint8 or float32, got int8"),
        ({"path": f"{__file__}/model.onnx"}, "the folder of --output '.*test_onnx_export.py' cannot be written"),
        ({"path": "."}, r"--output \. is a folder: name a file in it"),
        ({}, "MODEL.WEIGHTS is empty"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        export(igoas_plugin.get_cfg(), **{"path": "model.onnx", **given})
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_with_the_line_that_installs_them(monkeypatch):
    for name in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        InputError, match="^onnx and onnxscript must be installed for this: pip install onnx onnxscript"
    ):
        export(igoas_plugin.get_cfg(), "model.onnx")


def test_a_torch_without_the_exporter_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.onnx, "export", lambda model, args, f: None)
    with pytest.raises(InputError, match="ONNX files are written by torch 2.5 or newer, and this is torch"):
        export(igoas_plugin.get_cfg(), str(tmp_path / "model.onnx"))


# The command line


def test_the_tool_prints_the_difference_and_both_speeds_and_nothing_else(call_tool, tmp_path):
    cfg = saved_model(tmp_path, DATASETS__NAMES=("Market1501",), DATASETS__TESTS=("Market1501",))
    (tmp_path / "config.yml").write_text(cfg.dump())
    path = tmp_path / "model.onnx"
    words = ["--config-file", tmp_path / "config.yml", "--output", path, "--input", "float32"]
    done = call_tool("export", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second, *table = done.stdout.splitlines()
    assert re.fullmatch(r"\S+model.onnx: \d+ MB, opset 18, float32 images 32x16, descriptors of 64 values", first)
    assert re.fullmatch(r"largest difference to PyTorch: \d\S* \(batches of 1 and 5\)", second)
    assert [line.split("|")[2].strip() for line in table[2:]] == ["PyTorch eager", "onnxruntime"]
    assert all(re.search(r"32x16, batch 16, \d+ threads .* images/s ", line) for line in table[2:])
    assert done.stderr == ""
    assert onnx.load(path).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert_gives_descriptors(path, cfg, np.float32)


def test_a_mistake_on_the_command_line_is_one_line(call_tool, tmp_path):
    path = tmp_path / "model.onnx"
    words = ("--config-file", ROOT / "configs/Toy/igoas_R18.yml", "--output", path, "MODEL.WEIGHTS", "absent.pth")
    done = call_tool("export", *words)
    assert done.returncode == 2 and not path.exists()
    assert re.fullmatch(r"igoas_plugin \S+: checkpoint absent.pth does not exist.*\n", done.stderr)
