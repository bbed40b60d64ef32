import re

import pytest
import torch
from fastreid.modeling import build_model
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage
from runs import frozen_names, start, unchanged, weights
from tiny_data import random_batch, use_resnet
from torch import nn

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.freezing import FreezePlan


@pytest.fixture
def frozen_cfg(igoas_cfg):
    """Returns a config with two frozen epochs of four."""
    igoas_cfg.MODEL.IGOAS.FREEZE_EPOCHS = 2
    igoas_cfg.SOLVER.MAX_EPOCH = 4
    return igoas_cfg


def train_until(cfg, epochs: int, resume=False):
    """Returns the weights before and after a run that stops after `epochs`, as if it were killed."""
    trainer = start(cfg, resume)
    before = weights(trainer)
    trainer.max_epoch = epochs
    trainer.train()
    return before, weights(trainer)


def test_frozen_weights_and_statistics_stay_bit_identical_across_an_evaluation(frozen_cfg):
    before, after = train_until(frozen_cfg, 2)  # evaluated after each epoch
    assert unchanged(before, after) == frozen_names(after)
    (counter, *_) = [name for name in after if re.match(r"global_branch\.last_stage\..*num_batches_tracked", name)]
    assert {"backbone.bn1.running_mean", counter, "heads.joint_classifier.weight"} <= unchanged(before, after)


def test_a_resumed_run_stays_frozen_as_long_as_an_uninterrupted_one(frozen_cfg):
    train_until(frozen_cfg, 1)
    before, after = train_until(frozen_cfg, 2, resume=True)
    assert unchanged(before, after) == frozen_names(after)


def test_afterwards_everything_trains(frozen_cfg):
    train_until(frozen_cfg, 2)
    before, after = train_until(frozen_cfg, 3, resume=True)
    assert unchanged(before, after) == set()


def test_the_joint_classifier_is_frozen_by_its_own_key(frozen_cfg):
    frozen_cfg.MODEL.IGOAS.FREEZE_JOINT = False
    before, after = train_until(frozen_cfg, 1)
    joint = {"heads.joint_classifier.weight", "heads.joint_classifier.bias"}
    assert unchanged(before, after) == frozen_names(after) - joint


def test_freezing_by_fast_reid_s_keys_goes_by_the_iteration_of_the_run(baseline_cfg, raw_host):
    assert raw_host["change_of_frozen_weights_after_a_resume"] == 0.0
    cfg = baseline_cfg
    cfg.MODEL.HEADS.NUM_CLASSES = 4
    cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS = ["backbone"], 4
    model = build_model(cfg).train()
    optimizer, _ = build_optimizer(cfg, model)
    changes = []
    for iteration in (3, 4):
        before = model.backbone.conv1.weight.detach().clone()
        with EventStorage(iteration):
            optimizer.zero_grad()
            sum(model(random_batch()).values()).backward()
            optimizer.step()
        changes.append(float((model.backbone.conv1.weight - before).abs().sum()))
    assert changes[0] == 0 and changes[1] > 0


def test_an_evaluation_does_not_thaw_layers_frozen_by_fast_reid_s_keys(baseline_cfg, raw_host):
    assert raw_host["frozen_bn_in_train_mode_after_an_evaluation"] == [False, True]
    baseline_cfg.MODEL.FREEZE_LAYERS, baseline_cfg.SOLVER.FREEZE_ITERS = ["backbone"], 4
    trainer = start(baseline_cfg)
    before = weights(trainer)
    trainer.train()  # 4 iterations, evaluated after the second
    assert unchanged(before, weights(trainer)) == {name for name in before if name.startswith("backbone.")}


def test_outside_a_run_it_is_epoch_0(frozen_cfg):
    model = build_model(frozen_cfg).train()
    optimizer, _ = build_optimizer(frozen_cfg, model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer.zero_grad()
    sum(model(random_batch()).values()).backward()
    optimizer.step()
    assert unchanged(before, dict(model.named_parameters())) == frozen_names(before)


def test_freezing_by_two_settings_is_refused(frozen_cfg):
    frozen_cfg.MODEL.FREEZE_LAYERS, frozen_cfg.SOLVER.FREEZE_ITERS = ["backbone"], 4
    with pytest.raises(InputError, match="cannot be used if IGOAS freezes layers itself"):
        FreezePlan.from_config(frozen_cfg)


class Nested(nn.Module):
    """Model whose names begin alike: b1.conv.weight, b1_head.weight, b12.weight, b1_scale."""

    def __init__(self):
        super().__init__()
        self.b1 = nn.ModuleDict({"conv": nn.Linear(1, 1, bias=False)})
        self.b1_head, self.b12 = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        self.b1_scale = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize("pattern, frozen", [
    ("b1", {"b1.conv.weight"}),
    (r"b1\.", {"b1.conv.weight"}),
    ("b1|b12", {"b1.conv.weight", "b12.weight"}),
    ("b|b1_head", {"b1_head.weight"}),
    ("b1_.*", {"b1_head.weight", "b1_scale"}),
    ("b1_scale", {"b1_scale"}),
    (r"(?!b1_)b\d+", {"b1.conv.weight", "b12.weight"}),
    (r"b1[^.]*\.(?!conv)", {"b1_head.weight", "b12.weight"}),
    (r"b1\.conv\.weight", {"b1.conv.weight"}),
    ("(?i)B1|B12", {"b1.conv.weight", "b12.weight"}),
    ("(?i)(?s)B1_SCALE", {"b1_scale"}),
    ("(?i:B1)", {"b1.conv.weight"}),
])  # fmt: skip
def test_a_pattern_matches_whole_layers(pattern, frozen, baseline_cfg):
    model, cfg = Nested(), baseline_cfg
    plan = FreezePlan((pattern,), iterations=1)
    plan.require_matches(model)
    assert {name for name, _ in model.named_parameters() if plan.holds(name)} == frozen
    cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS = [pattern], 1
    groups = build_optimizer(cfg, model, contiguous=False)[0].param_groups
    held = {id(group["params"][0]) for group in groups if group["freeze_status"] == "freeze"}
    assert {name for name, parameter in model.named_parameters() if id(parameter) in held} == frozen


@pytest.mark.parametrize("pattern, message", [
    ("b", "MODEL.FREEZE_LAYERS: b matches no layer of the model: a match must end at a dot .* is b1_scale"),
    ("", "matches no layer of the model"), ("conv", "conv matches no layer of the model"),
    ("b1)(b12", "is no regular expression: unbalanced parenthesis"),
])  # fmt: skip
def test_a_pattern_without_a_whole_layer_is_refused(pattern, message):
    with pytest.raises(InputError, match=message):
        FreezePlan((pattern,), iterations=1).require_matches(Nested())


@pytest.mark.parametrize("architecture", ["MGN", pytest.param("OcclusionWrapper", marks=pytest.mark.slow)])
def test_a_layer_whose_name_begins_that_of_a_head_freezes_and_trains(baseline_cfg, architecture):
    cfg = baseline_cfg
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.OCCLUSION.WRAPS = architecture, "MGN"
    use_resnet(cfg, "50x")  # of which MGN copies the last stages
    cfg.MODEL.HEADS.EMBEDDING_DIM = 16
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [96, 32]
    cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS = ["backbone", "b1", "b2", "b3"], 2
    cfg.SOLVER.MAX_EPOCH = 1  # b1 is also how b1_head begins
    trainer = start(cfg)
    before = weights(trainer)
    trainer.train()
    frozen = unchanged(before, weights(trainer))
    assert frozen == {name for name in before if name.split(".")[0] in cfg.MODEL.FREEZE_LAYERS}
