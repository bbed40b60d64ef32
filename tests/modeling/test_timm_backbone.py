"""Backbones of timm: their layers, their weights, and what is refused. test_backbones.py trains them in both models."""

import logging
import sys

import pytest
import timm
import torch
from backbones import SIZE, TIMM, batch_of_two, of
from fastreid.modeling import build_model
from fastreid.modeling.backbones import build_backbone
from fastreid.utils.checkpoint import Checkpointer
from safetensors.torch import save_file
from saved_models import saved_igoas
from torch_versions import writes_onnx

import igoas_plugin
from igoas_plugin.core.errors import InputError
from igoas_plugin.inference import onnx_export
from igoas_plugin.preflight import build_model_shapes


def config(depth="resnet10t", **options):
    cfg = of(igoas_plugin.get_cfg(), "build_timm_backbone", depth)
    cfg.MODEL.BACKBONE.PRETRAIN = False
    for key, value in options.items():
        cfg.MODEL.BACKBONE[key] = value
    return cfg


def images(batch=2):
    return torch.randn(batch, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def with_weights_of(backbone, whole):
    """Returns features of timm that have the weights of a backbone, whose layers are the same in the same order."""
    weights = list(backbone.state_dict().values())
    whole.load_state_dict(dict(zip(whole.state_dict(), weights, strict=True)))
    return whole.eval()


@pytest.mark.parametrize("depth", [*TIMM, "mobilenetv3_small_050", "efficientnet_b0"])
@pytest.mark.parametrize("last_stride", [1, 2])
def test_the_layers_give_the_last_feature_map_of_timm(depth, last_stride):
    backbone = build_backbone(config(depth, LAST_STRIDE=last_stride)).eval()
    features = timm.create_model(depth, features_only=True, output_stride=16 * last_stride)
    trunk, last_stage = backbone.split_last_stage()
    with torch.no_grad():
        expected = with_weights_of(backbone, features)(images())[-2:]
        assert torch.equal(backbone(images()), expected[1])
        shared = trunk(images())
        assert torch.equal(shared, expected[0]) and torch.equal(last_stage(shared), expected[1])
    # 64 x 32 pixels: a sixteenth before the last stage
    assert shared.shape[2:] == (4, 2) and expected[1].shape[2:] == (4 // last_stride, 2 // last_stride)


# Weights of users


def loaded(path, depth="resnet10t"):
    return build_backbone(config(depth, PRETRAIN=True, PRETRAIN_PATH=str(path), LAST_STRIDE=2)).eval()


@pytest.mark.parametrize("depth", TIMM)
def test_the_file_of_a_whole_model_is_loaded_without_its_classifier(depth, tmp_path, host_log):
    torch.manual_seed(3)
    whole = timm.create_model(depth).eval()
    torch.save(whole.state_dict(), tmp_path / "model.pth")
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    for name in ("model.pth", "model.safetensors"):
        backbone = loaded(tmp_path / name, depth)
        with torch.no_grad():
            assert torch.equal(backbone(images()), whole.forward_intermediates(images(), intermediates_only=True)[-1])
    lines = [record.getMessage() for record in host_log.records if "model." in record.getMessage()]
    assert len(lines) == 2 and all("that the backbone does not have, such as a classifier: " in line for line in lines)
    assert all("fc.weight" in line and "fc.bias" in line for line in lines)


def test_weights_that_a_file_lacks_are_one_warning(tmp_path, host_log):
    weights = timm.create_model("resnet10t").state_dict()
    # 4 tensors of bn1, 15 of layer4: three convolutions, each with a norm of four
    left = {name: value for name, value in weights.items() if not name.startswith(("fc.", "layer4.", "bn1."))}
    torch.save(left, tmp_path / "model.pth")
    loaded(tmp_path / "model.pth")
    (line,) = [record.getMessage() for record in host_log.records if record.levelno == logging.WARNING]
    assert "model.pth lacks bn1.weight, bn1.bias, bn1.running_mean, bn1.running_var and 15 more, which stay" in line


def test_a_file_that_does_not_serve_is_one_line(tmp_path):
    torch.save(timm.create_model("resnet14t").state_dict(), tmp_path / "other.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "foreign.pth")
    for name, depth, said in (
        ("other.pth", "resnet10t", "build_timm_backbone resnet10t cannot take these weights .*shape"),
        ("foreign.pth", "resnet10t", "the file has none of the names of the model"),
        ("missing.pth", "resnet10t", "there is no file"),
    ):
        with pytest.raises(InputError, match=said) as error:
            loaded(tmp_path / name, depth)
        assert "\n" not in str(error.value) and name in str(error.value)


def test_nothing_is_downloaded():
    with pytest.raises(InputError, match="no link to pretrained weights 'resnet10t' of build_timm_backbone; give a l"):
        build_backbone(config(PRETRAIN=True))


# As other backbones


def test_a_checkpoint_holds_the_whole_model(igoas_cfg, tmp_path):
    cfg = of(igoas_cfg, "build_timm_backbone", "regnety_002")
    first = build_model(cfg).eval()
    Checkpointer(first, str(tmp_path)).save("model")
    torch.manual_seed(9)
    second = build_model(cfg).eval()
    with torch.no_grad():
        expected = first(batch_of_two())
        assert not torch.equal(second(batch_of_two()), expected)
        Checkpointer(second).load(str(tmp_path / "model.pth"))
        assert torch.equal(second(batch_of_two()), expected)


@pytest.mark.parametrize("depth", TIMM)
def test_the_checks_before_a_run_can_build_it(depth, igoas_cfg):
    """On torch's meta device, or on the CPU with a timm that cannot be built there."""
    cfg = of(igoas_cfg, "build_timm_backbone", depth)
    found = build_model_shapes(cfg, identities=4).state_dict()
    assert {key: each.shape for key, each in found.items()} == {
        key: each.shape for key, each in build_model(cfg).state_dict().items()
    }


@writes_onnx
@pytest.mark.slow
@pytest.mark.parametrize("depth", TIMM)
def test_it_is_exported_to_onnx(depth, tmp_path):
    size = {"INPUT__SIZE_TRAIN": SIZE, "INPUT__SIZE_TEST": SIZE}
    cfg = saved_igoas(tmp_path, MODEL__BACKBONE__NAME="build_timm_backbone", MODEL__BACKBONE__DEPTH=depth, **size)
    onnx_export.export(cfg, str(tmp_path / "model.onnx"))  # raises if the descriptors differ


# What is refused


@pytest.mark.parametrize("key, value", [("NORM", "syncBN"), ("WITH_IBN", True), ("WITH_SE", True), ("WITH_NL", True)])
def test_a_key_that_does_not_act_is_refused(key, value):
    with pytest.raises(InputError, match=f"{key} {value} does not act on a model of timm.*: set it to (BN|False)$"):
        build_backbone(config(**{key: value}))


@pytest.mark.parametrize(
    "depth, said",
    [
        ("50x", r"timm \S+ has no model 50x \(the nearest: "),
        ("regnety_2", r"has no model regnety_2 \(the nearest: regnety_002, "),
        ("regnety_002.foo", r"MODEL.BACKBONE.DEPTH regnety_002.foo: .*tag.*foo"),
        ("hf-hub:timm/resnet18.a1_in1k", "has no model hf-hub:timm/resnet18.a1_in1k"),  # it would be downloaded
        ("pvt_v2_b0", "LAST_STRIDE 1: the last stage of timm's pvt_v2_b0 cannot keep the resolution: set it to 2"),
    ],
)
def test_a_model_that_cannot_be_taken_is_one_line(depth, said):
    with torch.device("meta"), pytest.raises(InputError, match=said):
        build_backbone(config(depth))


@pytest.mark.parametrize("depth", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "xception41"])
def test_a_model_that_is_no_row_of_stages_is_one_line(depth):
    with pytest.raises(InputError, match=f"{depth}: this model of timm is no row of stages"):
        build_backbone(config(depth, LAST_STRIDE=2))


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="^timm must be installed for this: pip install timm$"):
        build_backbone(config())
