import math

import pytest
import torch

import igoas_plugin
from igoas_plugin.config import merge_key
from igoas_plugin.core.errors import InputError
from igoas_plugin.modeling.losses import (
    SuppressionLoss,
    identity_weights,
    metric_losses,
    parse_identity_weights,
    suppression_loss,
)


def mask(*rows):
    return torch.tensor([[rows]], dtype=torch.float64)


def test_by_hand_the_hidden_response_is_squared_and_averaged():
    feature_map = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[3.0, 2.0], [1.0, 0.0]]]])  # channel mean 2 everywhere
    visible = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert suppression_loss(feature_map, visible) == pytest.approx(3 * 2**2 / 4)
    # over all channels: the hidden values are 2, 3, 4 and 2, 1, 0
    assert suppression_loss(feature_map, visible, "feature_map") == pytest.approx((4 + 9 + 16 + 4 + 1 + 0) / 8)


def test_the_mask_is_resized_bilinearly_with_aligned_corners():
    feature_map = torch.ones(1, 1, 1, 3, dtype=torch.float64)
    # 1 0 0 0 1 on 5 columns -> corners 1 and 1, the middle 0
    assert suppression_loss(feature_map, mask([1, 0, 0, 0, 1])) == pytest.approx(1 / 3)
    # 1 1 0 0 on 4 columns -> 1, 1/2, 0: hidden parts 0, 1/2, 1
    assert suppression_loss(feature_map, mask([1, 1, 0, 0])) == pytest.approx((0.25 + 1) / 3)


def test_by_area_a_cell_sees_the_visible_share_of_its_pixels():
    feature_map = torch.full((1, 1, 1, 2), 3.0, dtype=torch.float64)
    # the left cell has 3 of 4 pixels hidden, the right one 1 of 4
    visible = mask([1, 0, 0, 1], [0, 0, 1, 1])
    assert suppression_loss(feature_map, visible, resize="area") == pytest.approx(9 * (0.75**2 + 0.25**2) / 2)


def test_on_a_coarse_map_most_occlusions_are_seen_by_area_alone():
    feature_map, visible = torch.ones(1, 1, 4, 2), torch.ones(1, 1, 128, 64)
    visible[..., 50:80, 20:50] = 0  # reaches neither border: the corners of a 4x2 map lie on them
    assert suppression_loss(feature_map, visible) == 0
    assert suppression_loss(feature_map, visible, resize="area") > 0


@pytest.mark.parametrize("on", ["channel_mean", "feature_map"])
def test_nothing_hidden_costs_nothing_and_has_no_gradient(on):
    feature_map = torch.randn(2, 3, 4, 2, requires_grad=True)
    loss = suppression_loss(feature_map, torch.ones(2, 1, 16, 8), on)
    loss.backward()
    assert loss == 0 and (feature_map.grad == 0).all()


def test_the_gradient_goes_through_both_terms():
    feature_map = torch.randn(2, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    visible = (torch.rand(2, 1, 16, 8, dtype=torch.float64) > 0.5).double()

    def written_out(feature_map):
        response = feature_map.mean(1, keepdim=True)
        small = torch.nn.functional.interpolate(visible, (4, 2), mode="bilinear", align_corners=True)
        return (((1 - small) * response) ** 2).mean()

    written_out(feature_map).backward()
    expected, feature_map.grad = feature_map.grad, None
    suppression_loss(feature_map, visible).backward()
    torch.testing.assert_close(feature_map.grad, expected, rtol=1e-5, atol=1e-8)  # the loss computes in float32


def test_it_is_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        loss = suppression_loss(torch.randn(2, 3, 4, 2).bfloat16(), torch.zeros(2, 1, 4, 2))
    assert loss.dtype == torch.float32


def test_detached_weights_are_the_softmax_too_and_their_gradient_is_the_weight():
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    weights = identity_weights(losses, "detached")
    assert weights.tolist() == identity_weights(losses, "adaptive").tolist()
    (weights * losses).sum().backward()
    assert losses.grad.tolist() == weights.tolist()


@pytest.mark.parametrize("given", ["0.5 1 2", "0.5, 1, 2", [0.5, 1, 2]])
def test_the_weights_can_be_numbers(given):
    cfg = igoas_plugin.get_cfg()
    merge_key(cfg, "MODEL.IGOAS.ID_WEIGHTS", given, "a test")
    weights = parse_identity_weights(cfg.MODEL.IGOAS.ID_WEIGHTS, 3)
    assert identity_weights(torch.tensor([1.0, 2.0, 3.0]), weights).tolist() == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("wrong", ["max", "", "1 2", "1 2 3 4", "1 -1 1", "0 0 0", "nan 1 1", "inf 1 1"])
def test_other_weights_are_refused(wrong):
    with pytest.raises(InputError, match='ID_WEIGHTS must be adaptive, detached, mean, or 3 numbers .*"0.5 1 1"'):
        parse_identity_weights(wrong, 3)


def test_adaptive_weights_are_the_softmax_of_the_losses():
    # e^1 : e^2 : e^3
    total = math.e + math.e**2 + math.e**3
    weights = identity_weights(torch.tensor([1.0, 2.0, 3.0]), "adaptive")
    assert weights.tolist() == pytest.approx([math.e / total, math.e**2 / total, math.e**3 / total])


def test_adaptive_weights_are_not_detached():
    losses = torch.tensor([1.0, 4.0, 5.0], dtype=torch.float64, requires_grad=True)
    weights = identity_weights(losses, "adaptive")
    (weights * losses).sum().backward()
    mean = (weights * losses).sum().item()
    expected = [w * (1 + loss - mean) for w, loss in zip(weights.tolist(), losses.tolist(), strict=True)]
    assert losses.grad.tolist() == pytest.approx(expected)
    assert losses.grad[0] < 0  # more than 1 below the mean


def test_mean_weights_are_equal():
    assert identity_weights(torch.tensor([1.0, 2.0, 3.0]), "mean").tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    "names, message",
    [
        (("TripletLoss",), "needs CrossEntropyLoss"),
        (("CrossEntropyLoss", "FocalLoss"), "MODEL.LOSSES.NAME must be .*, got FocalLoss"),
    ],
)
def test_losses_that_the_model_cannot_have_are_refused(names, message):
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.LOSSES.NAME = names
    with pytest.raises(InputError, match=message):
        metric_losses(cfg)


def test_metric_losses_are_those_of_fast_reid_with_their_settings():
    from fastreid.modeling.losses import pairwise_circleloss, triplet_loss

    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.LOSSES.NAME = ("CrossEntropyLoss", "TripletLoss", "CircleLoss")
    cfg.MODEL.LOSSES.TRI.SCALE, cfg.MODEL.LOSSES.TRI.HARD_MINING = 2.0, True
    features, targets = torch.randn(8, 4), torch.arange(8) // 2
    losses = metric_losses(cfg)
    assert set(losses) == {"loss_triplet", "loss_circle"}  # as in fast-reid's Baseline
    assert {name: scale for name, (scale, _) in losses.items()} == {"loss_triplet": 2.0, "loss_circle": 1.0}
    triplet, circle = losses["loss_triplet"][1], losses["loss_circle"][1]
    assert torch.equal(triplet(features, targets), triplet_loss(features, targets, 0.3, False, True))
    assert torch.equal(circle(features, targets), pairwise_circleloss(features, targets, 0.25, 128))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"scale": -1.0}, "MODEL.IGOAS.MASK_LOSS.SCALE must not be negative, got -1.0"),
        ({"on": "pixels"}, "MODEL.IGOAS.MASK_LOSS.ON must be channel_mean or feature_map, got pixels"),
        ({"resize": "nearest"}, "MODEL.IGOAS.MASK_LOSS.RESIZE must be bilinear or area, got nearest"),
        ({"stages": "first"}, "MODEL.IGOAS.MASK_LOSS.STAGES must be last or both, got first"),
        ({"branches": (1,)}, "MODEL.IGOAS.MASK_LOSS.BRANCHES must be global or suppression, got 1"),
        (
            {"branches": ("global",), "stages": "both"},
            "STAGES both needs suppression in MODEL.IGOAS.MASK_LOSS.BRANCHES",
        ),
    ],
)
def test_settings_of_the_suppression_loss_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SuppressionLoss(**settings)


def test_the_suppression_loss_is_computed_for_the_chosen_branches_and_stages():
    visible = torch.tensor([[[[1.0, 0.0]]]])
    first, second = torch.tensor([[[[2.0, 4.0]]]]), torch.tensor([[[[1.0, 2.0]]]])
    maps = {"global": [first], "suppression": [first, second]}
    # half of 4^2 for the first map, half of 2^2 for the second
    assert SuppressionLoss()(maps, visible) == {"global": 8, "suppression": 8}
    assert SuppressionLoss(branches=("suppression",), stages="both")(maps, visible) == {"suppression": 10}
    assert SuppressionLoss(scale=0.0)(maps, visible) == {}
    # half of the only cell is hidden: (1^2 + 2^2) / 2
    maps = {"global": [torch.tensor([[[[2.0]], [[4.0]]]])]}
    assert SuppressionLoss(on="feature_map", resize="area", branches=("global",))(maps, visible) == {"global": 2.5}
