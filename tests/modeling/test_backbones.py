"""Every backbone of fast-reid in IGOAS and OcclusionWrapper, some of timm, and one of a user."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_data
import torch
from backbones import LARGER, SIZE, SMALLEST, TIMM, batch_of_two, of
from benchmarks.infer import with_statistics
from fastreid.layers.batch_norm import FrozenBatchNorm
from fastreid.modeling import build_model
from fastreid.modeling.backbones import BACKBONE_REGISTRY, build_backbone, vision_transformer
from fastreid.modeling.backbones.vision_transformer import VisionTransformer
from fastreid.utils.events import EventStorage
from torch import nn
from torch.nn.functional import cosine_similarity

import igoas_plugin
from igoas_plugin.checkpoint.imagenet import DEPTHS
from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.modeling.backbones import FAMILIES, split_backbone
from igoas_plugin.modeling.fast_inference import FastInference, is_fixed_norm
from igoas_plugin.modeling.losses import SuppressionLoss


def train_and_evaluate(model):
    with EventStorage(3) as storage:
        storage.epoch = 1
        sum(model.train()(batch_of_two()).values()).backward()
    assert [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None] == []
    with torch.no_grad():
        descriptors = model.eval()(batch_of_two())
    assert len(descriptors) == 2 and torch.isfinite(descriptors).all()
    return descriptors


def assert_split_keeps_what_it_computes(whole):
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected = whole.eval()(images)
        split = split_backbone(whole, SIZE, stem="host")
        shared = split.trunk(images)
        assert torch.equal(split.last_stage(shared), expected)
    assert split.channels == expected.shape[1] and shared.shape[1] == split.trunk_channels


def test_every_family_of_fast_reid_is_tried():
    theirs = {name for name, each in BACKBONE_REGISTRY._obj_map.items() if each.__module__.startswith("fastreid.")}
    assert set(SMALLEST) | {"build_vit_backbone"} == set(DEPTHS) == theirs
    assert len(FAMILIES) == len(DEPTHS)


# The smallest of each family: one that is built serves all

# What fast-reid expects around the weights in a file, by family
WRAPPED_AS = {
    "build_resnext_backbone": lambda weights: {
        "model": {f"module.encoder.{name}": each for name, each in weights.items()}
    },
    "build_effnet_backbone": lambda weights: {"model_state": weights},
    "build_shufflenetv2_backbone": lambda weights: {"state_dict": weights},
}


BUILT = [*SMALLEST.items(), *(("build_timm_backbone", depth) for depth in TIMM)]


@pytest.fixture(scope="module", params=BUILT, ids=" ".join)
def family(request, tmp_path_factory):
    """A builder's name, its backbone, and an IGOAS built from a file of its weights; tests copy what they change."""
    (name, depth), cfg = request.param, igoas_plugin.get_cfg()
    tiny_data.tiny_settings(cfg, "")
    backbone = build_backbone(of(cfg, name, depth))
    for module in backbone.modules():  # statistics are weights too
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    path = tmp_path_factory.mktemp(name) / "weights.pth"
    torch.save(WRAPPED_AS.get(name, lambda weights: weights)(backbone.state_dict()), path)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME, cfg.MODEL.IGOAS.STEM = "IGOAS", "IGOASHead", "host"
    cfg.MODEL.HEADS.EMBEDDING_DIM, cfg.MODEL.HEADS.NUM_CLASSES = 32, 4
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.BACKBONE.PRETRAIN_PATH = True, str(path)
    torch.manual_seed(1)
    return SimpleNamespace(name=name, backbone=backbone.eval(), igoas=build_model(cfg).eval())


def test_the_two_parts_give_what_the_backbone_gives(family):
    assert_split_keeps_what_it_computes(copy.deepcopy(family.backbone))


def test_pretrained_weights_survive_the_split(family):
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected, shared = family.backbone(images), family.igoas.backbone(images)
        for branch in (family.igoas.global_branch, family.igoas.suppression_branch):
            assert torch.equal(branch.last_stage(shared), expected)


def test_igoas_trains_every_parameter_and_evaluates(family):
    assert train_and_evaluate(copy.deepcopy(family.igoas)).shape == (2, 64)


def test_a_wrapped_baseline_trains_every_parameter_and_evaluates(family, baseline_cfg, monkeypatch):
    monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, "build_copy", lambda cfg: copy.deepcopy(family.backbone))
    baseline_cfg.MODEL.BACKBONE.NAME, baseline_cfg.MODEL.META_ARCHITECTURE = "build_copy", "OcclusionWrapper"
    with torch.no_grad():
        baseline_cfg.MODEL.BACKBONE.FEAT_DIM = family.backbone(torch.zeros(1, 3, *SIZE)).shape[1]
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    train_and_evaluate(build_model(baseline_cfg))


def problem_in_mixed_precision(backbone) -> str | None:
    """Returns what is wrong with a step of a backbone in bfloat16 and with its feature maps, or None."""
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    last = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = backbone.eval()(images)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            found = backbone(last)
        backbone.train()(last).float().sum().backward()
    missing = [name for name, each in backbone.named_parameters() if each.requires_grad and each.grad is None]
    similarity = cosine_similarity(found.float().flatten(1), expected.flatten(1)).min()
    return None if not missing and similarity > 0.99 else f"cosine {similarity}, no gradient of {missing}"


@pytest.mark.slow
def test_a_backbone_trains_and_evaluates_in_mixed_precision(family):
    assert problem_in_mixed_precision(copy.deepcopy(family.backbone)) is None


@pytest.mark.slow
def test_a_transformer_trains_and_evaluates_in_mixed_precision(baseline_cfg):
    assert problem_in_mixed_precision(build_backbone(of(baseline_cfg, "build_vit_backbone", "small"))) is None


def test_fast_inference_leaves_the_descriptors_what_they_are(family):
    model = with_statistics(copy.deepcopy(family.igoas))
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected = model(batch_of_two())
    # float32 differs by the order of its sums; bfloat16 has 8 bits
    for dtype, least in ((None, 1 - 1e-5), (torch.bfloat16, 0.999)):
        fast = FastInference(model, torch.zeros(1, 3, *SIZE), dtype)
        with torch.no_grad():
            found = fast(batch_of_two())
        assert found.dtype == torch.float32 and found.shape == expected.shape
        assert cosine_similarity(found, expected).min() > least, dtype
        convolutions = [module for module in fast.modules() if isinstance(module, nn.Conv2d)]
        assert {module.weight.dtype for module in convolutions} == {dtype or torch.float32}
        if family.name == "build_timm_backbone":  # some of its norms hold an activation, and all norms stay
            continue
        left = [name for name, module in fast.model.named_modules() if is_fixed_norm(module)]
        # those behind a linear layer, and those that RepVGG has without a convolution
        assert all(name.startswith("heads.") or name.endswith("rbr_identity") for name in left)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


OWN_BLOCKS = {
    "build_resnet_backbone": "fastreid.modeling.backbones.resnet.BasicBlock",
    "build_resnext_backbone": "fastreid.modeling.backbones.resnext.Bottleneck",
    "build_resnest_backbone": "fastreid.modeling.backbones.resnest.Bottleneck",
    "build_osnet_backbone": "fastreid.modeling.backbones.osnet.OSBlock",
    "build_regnet_backbone": "fastreid.modeling.backbones.regnet.regnet.ResBottleneckBlock",
}


def test_an_extra_block_is_of_the_family_where_one_more_can_follow(family):
    """Other families get the bottleneck of ResNet: their last block or convolution changes the width."""
    block = family.igoas.global_branch.extra_block
    expected = OWN_BLOCKS.get(family.name, "fastreid.modeling.backbones.resnet.Bottleneck")
    assert f"{type(block).__module__}.{type(block).__name__}" == expected
    channels = family.igoas.suppression_branch.attention_after.fc2.out_channels
    feature_map = torch.randn(2, channels, 4, 2)
    assert block(feature_map).shape == feature_map.shape


# The other depths


@pytest.mark.slow
@pytest.mark.parametrize("name, depth", LARGER)
def test_every_depth_is_split_and_trained(name, depth, igoas_cfg):
    assert_split_keeps_what_it_computes(build_backbone(of(igoas_cfg, name, depth)))
    assert train_and_evaluate(build_model(of(igoas_cfg, name, depth))).shape == (2, 64)


def test_another_class_with_the_name_of_a_known_one_is_refused_with_its_module(igoas_cfg):
    other = type("ResNet", (nn.Conv2d,), {"__module__": "fastdistill.resnet_distill"})(3, 8, 1)
    message = r"cannot split fastdistill\.resnet_distill\.ResNet into .* alone: ResNet, .* method split_last_stage"
    with pytest.raises(InputError, match=message):
        split_backbone(other, SIZE)


# The vision transformer


@pytest.fixture
def transformer(monkeypatch):
    """Returns a small vision transformer of 4 x 2 patches that build_vit_backbone then gives."""
    torch.manual_seed(0)
    whole = VisionTransformer(img_size=SIZE, embed_dim=32, depth=3, num_heads=4, drop_path_rate=0.1)
    monkeypatch.setattr(vision_transformer, "VisionTransformer", lambda **_: copy.deepcopy(whole))
    return whole.eval()


def test_a_transformer_gives_a_map_of_its_patch_tokens(transformer):
    images = torch.randn(2, 3, *SIZE)
    whole, split = copy.deepcopy(transformer), split_backbone(transformer, SIZE)
    with torch.no_grad():
        tokens = torch.cat([whole.cls_token.expand(2, 1, 32), whole.patch_embed(images)], 1) + whole.pos_embed
        tokens = whole.blocks[1](whole.blocks[0](tokens))[:, 1:]  # the class token stays behind
        shared, last = split.trunk(images), split.last_stage(split.trunk(images))
        expected = whole.norm(whole.blocks[2](tokens))
    assert shared.shape == last.shape == (2, 32, 4, 2)
    assert split.trunk_channels == split.channels == 32
    for row in range(4):
        for column in range(2):
            torch.testing.assert_close(shared[:, :, row, column], tokens[:, 2 * row + column])
            torch.testing.assert_close(last[:, :, row, column], expected[:, 2 * row + column])


def test_the_map_of_a_transformer_depends_on_its_class_token(transformer):
    split = split_backbone(transformer, SIZE)
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        before = split.trunk(images)
        split.trunk.cls_token *= -1
        assert not torch.equal(split.trunk(images), before)


@pytest.mark.parametrize("extra_block", [False, True])
def test_igoas_trains_every_parameter_of_a_transformer_and_evaluates(transformer, extra_block, igoas_cfg):
    igoas_cfg.MODEL.IGOAS.EXTRA_BLOCK = extra_block
    model = build_model(of(igoas_cfg, "build_vit_backbone", "small"))
    assert train_and_evaluate(model).shape == (2, 64)
    for branch in (model.global_branch, model.suppression_branch):
        assert branch.last_stage.norm.normalized_shape == (32,)
        assert type(branch.extra_block).__name__ == ("TransformerStage" if extra_block else "Identity")
    ours = model.global_branch.last_stage.block.attn.qkv.weight, model.suppression_branch.last_stage.block.attn.qkv
    assert torch.equal(ours[0], transformer.blocks[2].attn.qkv.weight) and ours[0] is not ours[1].weight


def test_fast_inference_leaves_the_descriptors_of_a_transformer_what_they_are(transformer, igoas_cfg):
    model = build_model(of(igoas_cfg, "build_vit_backbone", "small")).eval()
    with torch.no_grad():
        expected = model(batch_of_two())
        for dtype, least in ((None, 1 - 1e-5), (torch.bfloat16, 0.999)):  # as above
            found = FastInference(model, torch.zeros(1, 3, *SIZE), dtype)(batch_of_two())
            assert cosine_similarity(found, expected).min() > least, dtype


def test_pretrained_weights_of_a_transformer_reach_trunk_and_branches(transformer, igoas_cfg, tmp_path):
    weights = {name: each + 0.01 for name, each in transformer.state_dict().items()}
    torch.save(weights, tmp_path / "vit.pth")
    igoas_cfg.MODEL.BACKBONE.PRETRAIN, igoas_cfg.MODEL.BACKBONE.PRETRAIN_PATH = True, str(tmp_path / "vit.pth")
    model = build_model(of(igoas_cfg, "build_vit_backbone", "small"))
    assert torch.equal(model.backbone.pos_embed, weights["pos_embed"])
    for branch in (model.global_branch, model.suppression_branch):
        assert torch.equal(branch.last_stage.block.mlp.fc1.weight, weights["blocks.2.mlp.fc1.weight"])
        assert torch.equal(branch.last_stage.norm.weight, weights["norm.weight"])


def test_the_suppression_loss_moves_a_transformer_as_its_config_sets_it(transformer, igoas_cfg):
    """Behind the final norm the channel mean is 0 and the mean square is 1: the global branch cannot be suppressed."""
    igoas_cfg.MODEL.IGOAS.EXTRA_BLOCK = False
    config = load_cfg(str(Path(__file__).parents[2] / "configs" / "Market1501" / "igoas_ViT.yml"))
    model = build_model(of(igoas_cfg, "build_vit_backbone", "small")).eval()
    images, visible = torch.randn(2, 3, *SIZE), torch.ones(2, 1, *SIZE)
    visible[:, :, :32] = 0
    shared = model.backbone(images)
    maps = {branch: [getattr(model, f"{branch}_branch")(shared)[0]] for branch in ("global", "suppression")}
    weights = [getattr(model, f"{branch}_branch").last_stage.block.mlp.fc2.weight for branch in maps]
    settings = {key.lower(): value for key, value in config.MODEL.IGOAS.MASK_LOSS.items()}
    with_both = SuppressionLoss(**{**settings, "branches": ("global", "suppression")})(maps, visible)
    of_global, of_suppression = (
        torch.autograd.grad(with_both[branch], weight, retain_graph=True)[0].abs().max()
        for branch, weight in zip(maps, weights, strict=True)
    )
    assert of_suppression > 1e-6 and of_global < 1e-7  # rounding
    assert set(SuppressionLoss(**settings)(maps, visible)) == {"suppression"}
    assert SuppressionLoss(resize="area")(maps, visible)["global"] < 1e-10  # as released


@pytest.mark.slow
@pytest.mark.parametrize("depth", DEPTHS["build_vit_backbone"].split())
def test_every_depth_of_the_transformer_is_trained(depth, igoas_cfg):
    igoas_cfg.MODEL.IGOAS.EXTRA_BLOCK = False
    assert train_and_evaluate(build_model(of(igoas_cfg, "build_vit_backbone", depth))).shape == (2, 64)


# The extra block


def test_an_extra_block_is_not_pretrained(igoas_cfg):
    whole = build_backbone(of(igoas_cfg, "build_resnet_backbone", "18x"))
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


# A backbone of a user


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
    """Registers a backbone of a user and returns its name."""
    monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, "build_own", lambda cfg: Own(cfg.MODEL.BACKBONE.FEAT_DIM))
    return "build_own"


def test_a_backbone_of_a_user_names_its_parts_by_one_method(own, igoas_cfg):
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
    with pytest.raises(InputError, match="EXTRA_BLOCK True needs a multiple of 4 channels, and the backbone has 10"):
        build_model(of(igoas_cfg, own, "any"))
    igoas_cfg.MODEL.IGOAS.EXTRA_BLOCK = False
    train_and_evaluate(build_model(igoas_cfg))


def test_parts_that_give_no_feature_map_are_refused(igoas_cfg):
    whole = Own()
    whole.last.append(nn.Flatten())
    with pytest.raises(InputError, match=r"needs feature maps \(B, C, H, W\): the part Sequential .* gives \(1, 384\)"):
        split_backbone(whole, SIZE)
