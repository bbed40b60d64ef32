import copy

import pytest
import torch
from fastreid.modeling import build_model
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.losses import cross_entropy_loss
from fastreid.utils.events import EventStorage
from tiny_data import random_batch, use_resnet

from igoas_plugin.config import image_size
from igoas_plugin.core.errors import InputError
from igoas_plugin.modeling.fast_inference import for_evaluation
from igoas_plugin.modeling.losses import SuppressionLoss, suppression_loss


def built(cfg, **keys):
    """IGOAS with dotted keys of the config changed ("__" for ".")."""
    for key, value in keys.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    torch.manual_seed(0)
    return build_model(cfg)


def train_step(model, batch=None, epoch=10, iteration=5):
    with EventStorage(iteration) as storage:
        storage.epoch = epoch
        losses = model.train()(batch or random_batch())
    return losses, storage


def without_gradient(model) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]


CASES = [
    ("18x", "WITH_IBN"),
    pytest.param("short", "WITH_SE", marks=pytest.mark.slow),
    pytest.param("short", "WITH_NL", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("depth, switch", CASES)
def test_every_kind_of_resnet_trains_all_its_parameters_and_evaluates(igoas_cfg, depth, switch):
    use_resnet(igoas_cfg, depth)
    igoas_cfg.MODEL.BACKBONE.FEAT_DIM = 7  # widths are read
    igoas_cfg.MODEL.BACKBONE[switch] = True
    model = built(igoas_cfg)
    losses, _ = train_step(model, random_batch(images=4))
    sum(losses.values()).backward()
    assert without_gradient(model) == []
    with torch.no_grad():
        descriptors = model.eval()(random_batch(images=2))
    assert descriptors.shape == (2, 64) and torch.isfinite(descriptors).all()


def test_both_last_stages_start_as_copies_of_the_backbone_s(igoas_cfg):
    from fastreid.modeling.backbones import build_backbone

    torch.manual_seed(0)
    stage = build_backbone(igoas_cfg).split_last_stage()[1].state_dict()
    model = built(igoas_cfg)
    for branch in (model.global_branch, model.suppression_branch):
        own = branch.last_stage.state_dict()
        assert own.keys() == stage.keys() and all(torch.equal(own[key], stage[key]) for key in stage)
    own, other = (branch.last_stage.conv3.weight for branch in (model.global_branch, model.suppression_branch))
    assert own.data_ptr() != other.data_ptr()


def test_the_batch_is_not_modified(igoas_cfg):
    model, batch = built(igoas_cfg), random_batch()
    before = copy.deepcopy(batch)
    train_step(model, batch)
    model.eval()(batch)
    assert batch.keys() == before.keys() and all(torch.equal(batch[key], before[key]) for key in batch)


def test_losses_are_the_weighted_sum_of_the_paper(igoas_cfg):
    model = built(igoas_cfg, MODEL__LOSSES__CE__EPSILON=0.1, MODEL__IGOAS__MASK_LOSS__SCALE=0.5)
    seen = {}
    model.heads.register_forward_hook(lambda module, inputs, output: seen.update(output, maps=inputs[:2]))
    model.occlusion.register_forward_hook(lambda module, inputs, output: seen.update(visible=output[1]))
    losses, storage = train_step(model, random_batch(size=(96, 48)))
    assert min(losses["suppression_loss_global"], losses["suppression_loss_suppression"]) > 0
    identity = [
        cross_entropy_loss(seen[name][0], random_batch()["targets"], 0.1) for name in ("global", "suppression", "joint")
    ]
    powers = [torch.exp(loss) for loss in identity]
    total = sum(loss * power for loss, power in zip(identity, powers, strict=True)) / sum(powers)
    total = total + 0.5 * sum(suppression_loss(each, seen["visible"]) for each in seen["maps"])
    torch.testing.assert_close(sum(losses.values()), total)
    for name, raw in zip(("global", "suppression", "joint"), identity, strict=True):
        logged = {kind: storage.latest()[f"{kind}_{name}"][0] for kind in ("raw_loss", "loss_weight")}
        assert logged["raw_loss"] == pytest.approx(raw.item())
        assert logged["raw_loss"] * logged["loss_weight"] == pytest.approx(losses[f"loss_identity_{name}"].item())
    for branch in ("global", "suppression"):
        raw = storage.latest()[f"raw_suppression_loss_{branch}"][0]
        assert raw == pytest.approx(2 * losses[f"suppression_loss_{branch}"].item())


def test_with_both_kinds_of_images_every_loss_is_the_mean_over_clean_and_occluded_ones(igoas_cfg):
    """The norms are frozen, so that no image depends on the others of its batch."""
    keys = {"MODEL__IGOAS__ID_WEIGHTS": "1 1 1", "MODEL__IGOAS__MASK_LOSS__RESIZE": "area"}
    keys["MODEL__LOSSES__CE__EPSILON"] = 0.1
    model = built(igoas_cfg, MODEL__HEADS__NORM="FrozenBN", MODEL__IGOAS__IMAGES="both", **keys)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval().train = lambda mode=True: None
    batch, occlusions, trunk = random_batch(), [], []
    model.occlusion.register_forward_hook(lambda module, inputs, output: occlusions.append(output))
    model.backbone.register_forward_hook(lambda module, inputs, output: trunk.append(len(output)))
    losses, _ = train_step(model, batch)
    (occluded, visible), clean = occlusions[0], model.preprocess_image(batch)
    assert trunk == [16] and visible.min() == 0

    expected = dict.fromkeys(losses, 0.0)
    model.heads.train()
    for images, mask in ((clean, torch.ones_like(visible)), (occluded, visible)):
        for image, target, seen in zip(images, batch["targets"], mask, strict=True):
            shared = model.backbone(image[None])
            maps = {"global": model.global_branch(shared)[0], "suppression": model.suppression_branch(shared)[0]}
            logits = model.heads(maps["global"], maps["suppression"], target[None])
            for name in ("global", "suppression", "joint"):
                expected[f"loss_identity_{name}"] += cross_entropy_loss(logits[name][0], target[None], 0.1) / 16
            for branch, each in maps.items():
                expected[f"suppression_loss_{branch}"] += suppression_loss(each, seen[None], resize="area") / 16
    torch.testing.assert_close(losses, expected)


def test_the_scale_of_the_cross_entropy_is_for_all_three_identity_losses(igoas_cfg):
    once, _ = train_step(built(igoas_cfg.clone()))
    twice, _ = train_step(built(igoas_cfg, MODEL__LOSSES__CE__SCALE=2.0))
    for name in ("global", "suppression", "joint"):
        torch.testing.assert_close(twice[f"loss_identity_{name}"], 2 * once[f"loss_identity_{name}"])
    assert torch.equal(twice["suppression_loss_global"], once["suppression_loss_global"])


def test_the_extra_block_is_of_the_backbone_s_own_type(igoas_cfg):
    from fastreid.layers import SELayer

    use_resnet(igoas_cfg)
    model = built(igoas_cfg, MODEL__BACKBONE__WITH_SE=True, MODEL__BACKBONE__NORM="GhostBN")
    for branch in (model.global_branch, model.suppression_branch):
        last = branch.last_stage[-1]
        assert type(branch.extra_block) is type(last) and isinstance(branch.extra_block.se, SELayer)
        assert type(branch.extra_block.bn1) is type(last.bn1) and type(last.bn1).__name__ == "GhostBatchNorm"


MASK = "MODEL__IGOAS__MASK_LOSS__"


def test_the_suppression_loss_has_the_settings_of_its_keys(igoas_cfg):
    keys = {MASK + "ON": "feature_map", MASK + "RESIZE": "area", MASK + "BRANCHES": "('suppression',)"}
    model = built(igoas_cfg, **keys, **{MASK + "SCALE": 0.5, MASK + "STAGES": "both"})
    assert model.suppression_loss == SuppressionLoss(0.5, "feature_map", "area", ("suppression",), "both")


def test_both_stages_adds_the_first_attention_of_the_suppression_branch_only(igoas_cfg):
    batch = random_batch(size=(96, 48))
    last, _ = train_step(built(igoas_cfg.clone()), batch)
    model = built(igoas_cfg, **{MASK + "STAGES": "both"})
    seen = {}
    model.suppression_branch.attention_before.register_forward_hook(
        lambda module, inputs, output: seen.update(map=output)
    )
    model.occlusion.register_forward_hook(lambda module, inputs, output: seen.update(visible=output[1]))
    both, _ = train_step(model, batch)
    assert torch.equal(both["suppression_loss_global"], last["suppression_loss_global"])
    extra = suppression_loss(seen["map"], seen["visible"])
    assert extra > 0
    torch.testing.assert_close(both["suppression_loss_suppression"], last["suppression_loss_suppression"] + extra)


@pytest.mark.parametrize("descriptor, other", [("global", "suppression"), ("suppression", "global")])
def test_an_evaluation_runs_no_branch_that_the_descriptor_does_not_need(igoas_cfg, descriptor, other):
    batch = random_batch()
    joint = built(igoas_cfg.clone()).eval()(batch)
    model, ran = built(igoas_cfg, MODEL__IGOAS__DESCRIPTOR=descriptor).eval(), []
    getattr(model, f"{other}_branch").register_forward_hook(lambda *_: ran.append(other))
    half = model(batch)
    width = half.shape[1]
    assert torch.equal(half, joint[:, :width] if descriptor == "global" else joint[:, width:]) and ran == []


@pytest.mark.parametrize("images, first", [("paired", slice(0, 8)), ("both", slice(0, 16))])
def test_the_stripe_branch_sees_the_images_of_the_global_branch_without_one_stripe(igoas_cfg, images, first):
    keys = {"MODEL__IGOAS__IMAGES": images, "MODEL__IGOAS__STRIPE__SCALE": 0.25, "MODEL__LOSSES__CE__SCALE": 2.0}
    model, seen = built(igoas_cfg, MODEL__IGOAS__STRIPE__ENABLED=True, MODEL__LOSSES__CE__EPSILON=0.1, **keys), {}
    model.backbone.register_forward_hook(lambda module, inputs, output: seen.update(shared=output))
    model.stripe_branch.register_forward_hook(lambda module, inputs, output: seen.update(dropped=inputs[0]))
    model.heads.register_forward_hook(lambda module, inputs, output: seen.update(logits=output["stripe"][0]))
    bands, batch = [], random_batch(size=(160, 64))
    for iteration in (5, 5, 6, 7):
        losses, storage = train_step(model, batch, iteration=iteration)
        shared, dropped = seen["shared"][first], seen["dropped"]
        rows = (dropped == 0).all(3).all(1)  # (images, rows of the feature map)
        assert (rows == rows[0]).all() and torch.equal(dropped, shared * ~rows[0][:, None])
        bands.append(rows[0].nonzero().flatten().tolist())
        targets = batch["targets"] if images == "paired" else torch.cat([batch["targets"]] * 2)
        raw = cross_entropy_loss(seen["logits"], targets, 0.1)
        torch.testing.assert_close(losses["loss_identity_stripe"], 2 * 0.25 * raw)
        assert storage.latest()["raw_loss_stripe"][0] == pytest.approx(raw.item())
    height = seen["shared"].shape[2]
    assert all(band == list(range(band[0], band[0] + round(0.3 * height))) for band in bands)
    assert bands[0] == bands[1] and len({band[0] for band in bands}) > 1


def test_the_stripe_is_kept_for_precise_bn(igoas_cfg):
    model, seen = built(igoas_cfg, MODEL__IGOAS__STRIPE__ENABLED=True), []
    model.stripe_branch.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    batch = random_batch() | {"targets": torch.full((8,), -1)}
    with EventStorage(), torch.no_grad():
        model.train()(batch)
    assert (seen[0] != 0).any(3).any(1).all()


@pytest.mark.parametrize("descriptor", ["joint", "stripe", "all"])
def test_the_embedding_of_the_stripe_branch_is_ranked_if_the_descriptor_says_so(igoas_cfg, descriptor):
    keys, ran = {"MODEL__IGOAS__STRIPE__ENABLED": True, "MODEL__IGOAS__DESCRIPTOR": descriptor}, []
    model = built(igoas_cfg, **keys).eval()
    model.stripe_branch.register_forward_hook(lambda module, inputs, output: ran.append(output[0]))
    descriptors = model(random_batch())
    width = model.heads.global_neck.width
    assert descriptors.shape == (8, width * {"joint": 2, "stripe": 1, "all": 3}[descriptor])
    assert bool(ran) == (descriptor != "joint")
    if ran:
        expected = torch.nn.functional.normalize(model.heads.stripe_neck(ran[0])[1])
        torch.testing.assert_close(descriptors[:, -width:], expected)


def test_the_last_stage_of_the_stripe_branch_is_frozen_with_the_others(igoas_cfg):
    igoas_cfg.MODEL.IGOAS.STRIPE.ENABLED, igoas_cfg.MODEL.IGOAS.FREEZE_EPOCHS = True, 1
    layers = type(built(igoas_cfg)).freeze_plan(igoas_cfg).layers
    assert r"stripe_branch\.last_stage\." in layers and len(layers) == 5


def test_a_suppression_loss_that_is_switched_off_needs_no_attention(igoas_cfg):
    keys = {MASK + "SCALE": 0.0, MASK + "STAGES": "both", "MODEL__IGOAS__SUPPRESSION__ATTENTION": False}
    losses, _ = train_step(built(igoas_cfg, **keys))
    assert not any(name.startswith("suppression_loss") for name in losses)


def test_mean_weights_are_a_third_of_each_raw_loss(igoas_cfg):
    losses, storage = train_step(built(igoas_cfg, MODEL__IGOAS__ID_WEIGHTS="mean"))
    for name in ("global", "suppression", "joint"):
        assert losses[f"loss_identity_{name}"].item() == pytest.approx(storage.latest()[f"raw_loss_{name}"][0] / 3)


@pytest.mark.parametrize(
    "keys, part", [({"MODEL__IGOAS__EXTRA_BLOCK": False}, "extra_block"),
                   ({"MODEL__IGOAS__SUPPRESSION__ATTENTION": False}, "attention")],
)  # fmt: skip
def test_a_part_that_is_switched_off_is_not_there(igoas_cfg, keys, part):
    assert any(part in name for name in built(igoas_cfg.clone()).state_dict())
    assert not any(part in name for name in built(igoas_cfg, **keys).state_dict())


@pytest.mark.parametrize("stem, padding", [("torchvision", 1), ("host", 0)])
def test_the_stem_is_that_of_the_key(igoas_cfg, stem, padding):
    use_resnet(igoas_cfg)
    assert built(igoas_cfg, MODEL__IGOAS__STEM=stem).backbone.maxpool.padding == padding


def test_each_branch_has_the_pooling_of_its_key(igoas_cfg):
    heads = built(
        igoas_cfg,
        MODEL__IGOAS__GLOBAL__POOL_LAYER="AdaptiveAvgMaxPool",
        MODEL__IGOAS__SUPPRESSION__POOL_LAYER="GeneralizedMeanPooling",
        MODEL__HEADS__POOL_LAYER="GlobalMaxPool",
    ).heads
    kinds = [type(neck.pool).__name__ for neck in (heads.global_neck, heads.suppression_neck)]
    assert kinds == ["AdaptiveAvgMaxPool", "GeneralizedMeanPooling"]


def test_extra_blocks_and_attention_start_as_torch_s_convolutions_do(igoas_cfg):
    """Uniform within 1 / sqrt(fan_in), the default of torch; blocks of fast-reid are normal, with outliers."""
    use_resnet(igoas_cfg)
    model = built(igoas_cfg)
    branch = model.suppression_branch
    for part in (model.global_branch.extra_block, branch.extra_block, branch.attention_before, branch.attention_after):
        for convolution in (each for each in part.modules() if isinstance(each, torch.nn.Conv2d)):
            bound = convolution.weight[0].numel() ** -0.5
            largest = convolution.weight.abs().max().item()
            assert largest <= bound
            if convolution.weight.numel() > 1000:
                assert largest > 0.98 * bound


def test_triplet_loss_acts_on_the_joint_embedding(igoas_cfg):
    from fastreid.modeling.losses import triplet_loss

    model = built(igoas_cfg, MODEL__LOSSES__NAME="('CrossEntropyLoss', 'TripletLoss')", MODEL__LOSSES__TRI__SCALE=3.0)
    seen = {}
    model.heads.register_forward_hook(lambda module, inputs, output: seen.update(output))
    losses, storage = train_step(model)
    assert seen["features"].shape == (8, 64)
    expected = triplet_loss(seen["features"], random_batch()["targets"], 0.3, False, False)
    torch.testing.assert_close(losses["loss_triplet"], 3 * expected)
    assert storage.latest()["raw_loss_triplet"][0] == pytest.approx(expected.item())


def test_precise_bn_sees_clean_images_in_both_branches(igoas_cfg):
    model, batch = built(igoas_cfg), random_batch()
    batch["targets"].fill_(-1)
    seen = []
    model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with EventStorage(), torch.no_grad():
        losses = model.train()(batch)
    assert torch.equal(seen[0][:8], seen[0][8:])
    assert losses["suppression_loss_suppression"] == 0
    assert batch["targets"].tolist() == [-1] * 8


def test_clean_and_occluded_half_pass_the_trunk_once(igoas_cfg):
    model = built(igoas_cfg)
    seen = []
    model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    train_step(model)
    assert len(seen) == 1 and seen[0].shape == (16, 3, 32, 16)
    assert torch.equal(seen[0][:8], model.preprocess_image(random_batch()))
    assert not torch.equal(seen[0][:8], seen[0][8:])


def test_it_trains_without_an_event_storage_too(igoas_cfg):
    model, masks = built(igoas_cfg).train(), []
    model.occlusion.register_forward_hook(lambda module, inputs, output: masks.append(output[1]))
    losses = [sum(model(random_batch()).values()) for _ in range(5)]
    assert torch.isfinite(torch.stack(losses)).all()
    assert any(not torch.equal(mask, masks[0]) for mask in masks)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_float32_under_autocast(igoas_cfg, dtype):
    model = built(igoas_cfg)
    with torch.autocast("cpu", dtype):
        losses, _ = train_step(model)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def test_with_a_crop_the_images_have_its_size(igoas_cfg):
    igoas_cfg.INPUT.CROP.ENABLED, igoas_cfg.INPUT.CROP.SIZE, igoas_cfg.TEST.FAST = True, [32], True
    igoas_cfg.INPUT.SIZE_TRAIN = igoas_cfg.INPUT.SIZE_TEST = [0]  # not resized
    model = for_evaluation(igoas_cfg, build_model(igoas_cfg).eval())
    assert model(random_batch(size=(32, 32), images=2)).shape == (2, 64)
    assert (image_size(igoas_cfg, "TRAIN"), image_size(igoas_cfg, "TEST")) == ([32, 32], [32, 32])


def test_evaluation_takes_a_bare_tensor_of_images(igoas_cfg):
    model = built(igoas_cfg).eval()
    assert torch.equal(model(random_batch()["images"]), model(random_batch()))


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"MODEL__IGOAS__ID_WEIGHTS": "max"}, "ID_WEIGHTS must be adaptive, .*, got max"),
        ({"MODEL__IGOAS__DESCRIPTOR": "all"}, "DESCRIPTOR all needs MODEL.IGOAS.STRIPE.ENABLED True"),
        (
            {"MODEL__IGOAS__STRIPE__ENABLED": True, "MODEL__IGOAS__STRIPE__SCALE": -1.0},
            "STRIPE.SCALE must not be negative, got -1.0",
        ),
        ({"MODEL__IGOAS__IMAGES": "all"}, "MODEL.IGOAS.IMAGES must be paired or both, got all"),
        (
            {MASK + "STAGES": "both", "MODEL__IGOAS__SUPPRESSION__ATTENTION": False},
            "needs MODEL.IGOAS.SUPPRESSION.ATTENTION",
        ),
        (
            {"MODEL__HEADS__NAME": "EmbeddingHead"},
            "EmbeddingHead takes one feature map, and IGOAS gives two: set it to IGOASHead",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(igoas_cfg, keys, message):
    with pytest.raises(InputError, match=message):
        built(igoas_cfg, **keys)


class HeadWithSize(torch.nn.Module):
    """Head whose constructor needs a second argument."""

    def __init__(self, cfg, size):
        super().__init__()


def build_without_config():
    """Builder of a backbone that takes no config."""


@pytest.mark.parametrize(
    "key, registry, registered, words",
    [
        (
            "MODEL.HEADS.NAME",
            REID_HEADS_REGISTRY,
            HeadWithSize,
            "class HeadWithSize .* HeadWithSize(cfg), which fails: ",
        ),
        (
            "MODEL.BACKBONE.NAME",
            BACKBONE_REGISTRY,
            build_without_config,
            "function build_without_config .* build_without_config(cfg), which fails: ",
        ),
    ],
)
def test_a_head_or_backbone_of_a_user_that_takes_other_arguments_ends_in_one_line(
    igoas_cfg, monkeypatch, key, registry, registered, words
):
    monkeypatch.setitem(registry._obj_map, registered.__name__, registered)
    igoas_cfg.merge_from_list([key, registered.__name__])
    with pytest.raises(InputError, match=f"^{key}: the {words.replace('(', '[(]').replace(')', '[)]')}"):
        build_model(igoas_cfg)
