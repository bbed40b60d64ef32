import pytest
import torch
import torch.nn.functional as F
from fastreid.modeling.heads import build_heads

import igoas_plugin
from igoas_plugin.core.errors import InputError


def head(**keys):
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.HEADS.NAME, cfg.MODEL.BACKBONE.FEAT_DIM = "IGOASHead", 8
    cfg.MODEL.HEADS.NUM_CLASSES, cfg.MODEL.HEADS.EMBEDDING_DIM = 5, 6
    for key, value in keys.items():
        node, name = (cfg.MODEL.IGOAS, key) if key == "DESCRIPTOR" else (cfg.MODEL.HEADS, key)
        node[name] = value
    torch.manual_seed(0)
    return build_heads(cfg)


def maps(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 8, 3, 2, generator=generator) for _ in range(2)]


def test_the_global_branch_is_average_pooled_the_suppression_branch_max_pooled():
    heads = head(EMBEDDING_DIM=0).eval()
    global_map, suppression_map = maps()
    expected = torch.cat([F.normalize(global_map.mean((2, 3))), F.normalize(suppression_map.amax((2, 3)))], 1)
    torch.testing.assert_close(heads(global_map, suppression_map), expected)


@pytest.mark.parametrize(
    "descriptor, columns", [("joint", slice(0, 12)), ("global", slice(0, 6)), ("suppression", slice(6, 12))]
)
def test_the_descriptor_is_chosen_by_its_key(descriptor, columns):
    joint, chosen = head().eval()(*maps()), head(DESCRIPTOR=descriptor).eval()(*maps())
    assert torch.equal(chosen, joint[:, columns])
    halves = chosen.reshape(4, -1, 6)
    torch.testing.assert_close(halves.norm(dim=2), torch.ones(4, halves.shape[1]))


def test_initialisation_of_reduction_and_classifiers():
    cfg_width, classes = 2048, 700
    heads = head(EMBEDDING_DIM=512, NUM_CLASSES=classes)
    torch.manual_seed(0)
    from igoas_plugin.modeling.heads import Classifier, Reduction

    reduction, classifier = Reduction(cfg_width, 512, "BN"), Classifier(512, classes, "Linear", 1, 0.0)
    # kaiming normal, fan_out: standard deviation sqrt(2 / 512); a million draws
    assert reduction.linear.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.01)
    assert reduction.norm.weight.mean().item() == pytest.approx(1, abs=0.005)
    assert reduction.norm.weight.std().item() == pytest.approx(0.02, rel=0.2)  # 512 draws
    assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.01)
    for bias in (reduction.linear.bias, reduction.norm.bias, classifier.bias, heads.joint_classifier.bias):
        assert (bias == 0).all()


@pytest.mark.parametrize("cls_layer", ["Linear", "ArcSoftmax", "CosSoftmax", "CircleSoftmax"])
def test_every_classification_layer_of_fast_reid_works(cls_layer):
    from fastreid.layers import any_softmax

    heads = head(CLS_LAYER=cls_layer, SCALE=16, MARGIN=0.2).train()
    targets = torch.tensor([0, 1, 2, 3])
    outputs = heads(*maps(), targets)
    classifier, features = heads.joint_classifier, outputs["features"]
    if cls_layer == "Linear":
        plain = features @ classifier.weight.T + classifier.bias
    else:
        assert classifier.bias is None
        plain = F.normalize(features) @ F.normalize(classifier.weight).T
    expected = getattr(any_softmax, cls_layer)(5, 16, 0.2)(plain.clone(), targets)
    torch.testing.assert_close(outputs["joint"][0], expected)
    torch.testing.assert_close(outputs["joint"][1], 16 * plain)
    assert outputs["global"][0].shape == outputs["suppression"][0].shape == (4, 5)


@pytest.mark.parametrize("neck_feat", ["before", "after"])
def test_metric_losses_see_the_chosen_side_of_the_neck(neck_feat):
    heads = head(WITH_BNNECK=True, NECK_FEAT=neck_feat).train()
    features = heads(*maps(), torch.zeros(4, dtype=torch.int64))["features"]
    # behind a BatchNorm the batch mean is 0; before it, behind a ReLU, nothing is negative
    assert (features.mean(0).abs() < 1e-5).all() == (neck_feat == "after")
    assert (features >= 0).all() == (neck_feat == "before")


def test_the_descriptor_lies_behind_the_neck():
    heads = head(WITH_BNNECK=True).eval()
    with torch.no_grad():
        before = heads(*maps())
        heads.global_neck.bnneck.weight[0] = 5.0
        assert not torch.equal(heads(*maps())[:, :6], before[:, :6])


def test_heads_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head().train()(*(each.bfloat16() for each in maps()), torch.tensor([0, 1, 2, 3]))
    assert {tensor.dtype for name in ("global", "suppression", "joint") for tensor in outputs[name]} == {torch.float32}


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"NORM": "none"}, "MODEL.HEADS.NORM must be BN, .*, got none"),
        ({"NECK_FEAT": "behind"}, "NECK_FEAT must be before or after, got behind"),
        ({"EMBEDDING_DIM": -1}, "EMBEDDING_DIM must be 0 .* or more, got -1"),
        ({"EMBEDDING_DIM": 48, "NORM": "GN"}, "GN needs MODEL.HEADS.EMBEDDING_DIM 64 or .* multiple of 32, got 48"),
        ({"EMBEDDING_DIM": 32, "NORM": "GN"}, "GN needs MODEL.HEADS.EMBEDDING_DIM 64 or .* multiple of 32, got 32"),
        ({"DESCRIPTOR": "both"}, "DESCRIPTOR must be joint, global, suppression, stripe or all, got both"),
        ({"CLS_LAYER": "Softmax"}, "CLS_LAYER must be Linear, ArcSoftmax, .*, got Softmax"),
    ],
)
def test_unknown_names_are_refused(keys, message):
    with pytest.raises(InputError, match=message):
        head(**keys)


@pytest.mark.parametrize("branch", ["GLOBAL", "SUPPRESSION", "STRIPE"])
def test_an_unknown_pooling_of_a_branch_names_its_key(branch):
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.HEADS.NAME, cfg.MODEL.IGOAS.STRIPE.ENABLED = "IGOASHead", True
    cfg.MODEL.IGOAS[branch].POOL_LAYER = "GlobalMax"
    with pytest.raises(InputError, match=f"MODEL.IGOAS.{branch}.POOL_LAYER must be .*, got GlobalMax"):
        build_heads(cfg)
