import pytest
import tiny_data
import torch
from fastreid.modeling import build_model
from torch.testing import assert_close

from igoas_plugin.evaluation.activation_maps import activation_maps
from igoas_plugin.occlusion import build_occlusion
from igoas_plugin.occlusion.preview import occluded_batch

SUPPRESSION = "suppression, attention {} the last stage: {}"


def test_activation_maps_of_igoas_are_channel_means_of_each_branch_and_before_and_after_each_attention(igoas_cfg):
    igoas_cfg.MODEL.IGOAS.STRIPE.ENABLED = True
    model, images = build_model(igoas_cfg).eval(), tiny_data.random_batch(images=2)["images"]
    with torch.no_grad():
        shared = model.backbone(model.preprocess_image(images))
        entering = model.suppression_branch.attention_before(shared)
        leaving = model.suppression_branch.extra_block(model.suppression_branch.last_stage(entering))
        expected = {
            "global": model.global_branch(shared)[0],
            SUPPRESSION.format("before", "in"): shared,
            SUPPRESSION.format("before", "out"): entering,
            SUPPRESSION.format("after", "in"): leaving,
            SUPPRESSION.format("after", "out"): model.suppression_branch.attention_after(leaving),
            "stripe": model.stripe_branch(shared)[0],
        }
    found = activation_maps(model, images)
    assert list(found) == list(expected)
    for name, feature_map in expected.items():
        assert_close(found[name], feature_map.mean(1), msg=name)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_activation_map_of_another_model_is_that_of_its_backbone(baseline_cfg):
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    model, images = build_model(baseline_cfg).eval(), tiny_data.random_batch(images=2)["images"]
    with torch.no_grad():
        expected = model.backbone(model.preprocess_image(images)).mean(1)
    assert_close(activation_maps(model, images), {"backbone": expected})


@pytest.mark.parametrize("schedule", ["released", "paper"])
def test_a_batch_is_occluded_as_in_the_epoch_that_is_asked_for(igoas_cfg, schedule):
    igoas_cfg.merge_from_list(["SOLVER.MAX_EPOCH", 10, "MODEL.OCCLUSION.SCHEDULE", schedule])
    block, images = build_occlusion(igoas_cfg), torch.rand(2, 3, 128, 64)
    shares = []
    for epoch in (0, 5, 9):
        occluded, visible, share = occluded_batch(block, images, epoch)
        kept = visible.bool().expand_as(images)
        assert_close(occluded[kept], images[kept])
        assert share == pytest.approx(
            block.rectangle.schedule.at(epoch / 10)
            if schedule == "paper"
            else block.rectangle.schedule.at_epoch(epoch),
            abs=0.02,
        )  # fmt: skip  (whole pixels)
        shares.append(share)
    assert shares == sorted(shares)
    assert_close(occluded_batch(block, images, 9)[0], occluded)
