"""Every backbone of the host behind IGOAS and OcclusionWrapper, and a user's own."""

import pytest
import torch
from fastreid.layers.batch_norm import FrozenBatchNorm
from fastreid.modeling import build_model
from fastreid.modeling.backbones import BACKBONE_REGISTRY, build_backbone
from fastreid.utils.events import EventStorage
from tiny_data import random_batch
from torch import nn

from igoas_plugin.errors import InputError
from igoas_plugin.host.pretrained import DEPTHS
from igoas_plugin.modeling.families import FAMILIES
from igoas_plugin.modeling.stages import split_backbone

SIZE = (64, 32)
LARGE = "101x 200x 269x B1 B1g2 B1g4 B2 B2g2 B2g4 B3 B3g2 B3g4 b4 b5 3200y 4000x 4000y 6400x 6400y".split()
CONVOLUTIONAL = [(name, depth) for name in DEPTHS if "vit" not in name for depth in DEPTHS[name].split()]
ALL = [pytest.param(*each, marks=[pytest.mark.slow] if each[1] in LARGE else []) for each in CONVOLUTIONAL]
SMALLEST = {name: min(DEPTHS[name].split(), key=depths.index) for name, depths in (
    ("build_resnet_backbone", ["18x", "34x", "50x", "101x"]),
    ("build_resnext_backbone", ["50x", "101x"]),
    ("build_resnest_backbone", ["50x", "101x", "200x", "269x"]),
    ("build_osnet_backbone", ["x0_25", "x0_5", "x0_75", "x1_0"]),
)}  # fmt: skip
SMALLEST.update(build_regnet_backbone="200y", build_effnet_backbone="b0", build_mobilenetv2_backbone="0.1x")
SMALLEST.update(build_mobilenetv3_backbone="Small", build_shufflenetv2_backbone="0.5x", build_repvgg_backbone="A0")


def of(cfg, name, depth):
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH, cfg.INPUT.SIZE_TRAIN = name, depth, SIZE
    torch.manual_seed(0)
    return cfg


def batch_of_two():
    return random_batch(images=2, size=SIZE)


def train_and_evaluate(model):
    with EventStorage(3) as storage:
        storage.epoch = 1
        sum(model.train()(batch_of_two()).values()).backward()
    assert [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None] == []
    with torch.no_grad():
        descriptors = model.eval()(batch_of_two())
    assert len(descriptors) == 2 and torch.isfinite(descriptors).all()
    return descriptors


def test_every_family_of_the_host_is_tried():
    assert set(SMALLEST) | {"build_vit_backbone"} == set(DEPTHS) == set(BACKBONE_REGISTRY._obj_map)
    assert len(FAMILIES) == len(SMALLEST)


@pytest.mark.parametrize("name, depth", ALL)
def test_igoas_trains_every_parameter_and_evaluates(name, depth, igoas_cfg):
    assert train_and_evaluate(build_model(of(igoas_cfg, name, depth))).shape == (2, 64)


@pytest.mark.parametrize("name, depth", ALL)
def test_the_two_parts_give_what_the_backbone_gives(name, depth, igoas_cfg):
    whole, images = build_backbone(of(igoas_cfg, name, depth)).eval(), torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected = whole(images)
        split = split_backbone(whole, SIZE, stem="host")
        assert torch.equal(split.last_stage(split.trunk(images)), expected)
    assert split.channels == expected.shape[1] and split.trunk(images).shape[1] == split.trunk_channels


# What the host expects around the weights in a file, by family
WRAPPED_AS = {
    "build_resnext_backbone": lambda weights: {
        "model": {f"module.encoder.{name}": each for name, each in weights.items()}
    },
    "build_effnet_backbone": lambda weights: {"model_state": weights},
    "build_shufflenetv2_backbone": lambda weights: {"state_dict": weights},
}


@pytest.mark.parametrize("name", SMALLEST)
def test_pretrained_weights_survive_the_split(name, igoas_cfg, tmp_path):
    cfg = of(igoas_cfg, name, SMALLEST[name])
    pretrained, images = build_backbone(cfg), torch.randn(2, 3, *SIZE)
    for module in pretrained.modules():  # statistics too
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    weights = WRAPPED_AS.get(name, lambda weights: weights)(pretrained.state_dict())
    torch.save(weights, tmp_path / "weights.pth")
    torch.manual_seed(1)
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.BACKBONE.PRETRAIN_PATH = True, str(tmp_path / "weights.pth")
    cfg.MODEL.IGOAS.STEM = "host"
    cfg.MODEL.IGOAS.EXTRA_BLOCK = cfg.MODEL.IGOAS.SUPPRESSION.ATTENTION = False
    model = build_model(cfg).eval()
    with torch.no_grad():
        expected = pretrained.eval()(images)
        for branch in (model.global_branch, model.suppression_branch):
            assert torch.equal(branch(model.backbone(images))[0], expected)


@pytest.mark.parametrize("name", SMALLEST)
def test_a_wrapped_baseline_trains_every_parameter_and_evaluates(name, baseline_cfg):
    cfg = of(baseline_cfg, name, SMALLEST[name])
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NUM_CLASSES = "OcclusionWrapper", 4
    cfg.MODEL.BACKBONE.FEAT_DIM = split_backbone(build_backbone(cfg), SIZE).channels
    train_and_evaluate(build_model(cfg))


@pytest.mark.parametrize("depth", DEPTHS["build_vit_backbone"].split())
def test_a_transformer_is_refused_with_what_can_be_taken(depth, igoas_cfg):
    message = "cannot take VisionTransformer apart .* must give one of ResNet, ResNeXt, .* method split_last_stage"
    with pytest.raises(InputError, match=message):
        build_model(of(igoas_cfg, "build_vit_backbone", depth))


# The extra block


@pytest.mark.parametrize("name, kind", [
    ("build_resnext_backbone", "fastreid.modeling.backbones.resnext.Bottleneck"),
    ("build_resnest_backbone", "fastreid.modeling.backbones.resnest.Bottleneck"),
    ("build_osnet_backbone", "fastreid.modeling.backbones.osnet.OSBlock"),
    ("build_regnet_backbone", "fastreid.modeling.backbones.regnet.regnet.ResBottleneckBlock"),
    ("build_repvgg_backbone", "fastreid.modeling.backbones.resnet.Bottleneck"),  # its last stage is one wider block
    ("build_mobilenetv2_backbone", "fastreid.modeling.backbones.resnet.Bottleneck"),
    ("build_effnet_backbone", "fastreid.modeling.backbones.resnet.Bottleneck"),
])  # fmt: skip
def test_an_extra_block_is_of_the_family_where_one_more_can_follow(name, kind, igoas_cfg):
    split = split_backbone(build_backbone(of(igoas_cfg, name, SMALLEST[name])), SIZE)
    block, feature_map = split.make_block(), torch.randn(2, split.channels, 4, 2)
    assert f"{type(block).__module__}.{type(block).__name__}" == kind
    assert block(feature_map).shape == feature_map.shape


def test_an_extra_block_is_not_pretrained(igoas_cfg):
    whole = build_backbone(of(igoas_cfg, "build_resnest_backbone", "50x"))
    for each in whole.parameters():
        nn.init.constant_(each, 7.0)
    block = split_backbone(whole, SIZE).make_block()
    assert not any((each == 7).any() for each in block.parameters())
    assert block.bn1.weight.eq(1).all() and block.bn1.bias.eq(0).all()


def test_frozen_statistics_are_not_copied_into_an_extra_block(igoas_cfg):
    igoas_cfg.MODEL.BACKBONE.NORM = "FrozenBN"
    whole = build_backbone(of(igoas_cfg, "build_resnet_backbone", "18x"))
    for module in whole.modules():
        if isinstance(module, FrozenBatchNorm):
            module.running_mean.fill_(3)
    block = split_backbone(whole, SIZE).make_block()
    assert block.bn1.running_mean.eq(0).all() and whole.layer4[-1].bn1.running_mean.eq(3).all()


# A user's own


class Own(nn.Module):
    def __init__(self, channels=12):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(8, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, images):
        return self.last(self.first(images))

    def split_last_stage(self):
        return self.first, self.last


@pytest.fixture
def own(monkeypatch):
    """Registers a backbone of a user for the test, and gives its name."""
    monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, "build_own", lambda cfg: Own(cfg.MODEL.BACKBONE.FEAT_DIM))
    return "build_own"


def test_a_backbone_of_the_user_s_own_declares_its_parts_by_one_method(own, igoas_cfg):
    igoas_cfg.MODEL.BACKBONE.FEAT_DIM = 12
    model = build_model(of(igoas_cfg, own, "any"))
    assert train_and_evaluate(model).shape == (2, 64)
    assert model.suppression_branch.attention_before.fc2.out_channels == 8
    assert model.global_branch.extra_block.conv3.out_channels == 12


def test_reading_the_widths_leaves_the_backbone_as_it_was(igoas_cfg):
    whole = Own().train()
    before = {name: each.clone() for name, each in whole.state_dict().items()}
    split = split_backbone(whole, SIZE)
    assert split.trunk.training and split.last_stage.training and split.trunk[1].training
    assert all(torch.equal(each, before[name]) for name, each in whole.state_dict().items())


def test_a_width_that_no_bottleneck_has_is_refused(own, igoas_cfg):
    igoas_cfg.MODEL.BACKBONE.FEAT_DIM = 10
    with pytest.raises(
        InputError, match="EXTRA_BLOCK: a bottleneck needs a multiple of 4 channels, the backbone has 10"
    ):
        build_model(of(igoas_cfg, own, "any"))
    igoas_cfg.MODEL.IGOAS.EXTRA_BLOCK = False
    train_and_evaluate(build_model(igoas_cfg))


def test_parts_that_give_no_feature_map_are_refused(igoas_cfg):
    whole = Own()
    whole.last.append(nn.Flatten())
    with pytest.raises(InputError, match=r"needs feature maps \(B, C, H, W\): Sequential, .* gives \(1, 384\)"):
        split_backbone(whole, SIZE)
