"""Losses, gradients and weights that are not finite: the run stops or skips the step before the weights change."""

import re
from pathlib import Path

import pytest
import torch
from fastreid.engine.train_loop import HookBase
from runs import start, weights
from tiny_data import random_batch

from igoas_plugin.core.errors import NotFinite

STEPS = 2  # of an epoch
SPOILT = 2  # the iteration, the first of the second epoch


class Spoil(HookBase):
    """Hook that causes a fault in some iterations; `named` is the first tensor that is not finite."""

    def __init__(self, spoil, iterations=(SPOILT,)):
        self.spoil, self.iterations, self.named = spoil, iterations, ""

    def before_step(self):
        self.undo = None
        if self.trainer.iter in self.iterations:
            self.undo, self.named = self.spoil(self.trainer)

    def after_step(self):
        if self.undo:
            self.undo()


def model_of(trainer):
    return trainer._trainer.model


def module_of(trainer, kind) -> tuple[str, torch.nn.Module]:
    """Returns name and module of the second module of a kind in the backbone."""
    found = [(f"backbone.{name}", each) for name, each in model_of(trainer).backbone.named_modules()]
    return [(name, each) for name, each in found if isinstance(each, kind)][1]


# Each fault returns the end of the fault and the name of the first tensor that is not finite


def nan_in_a_parameter(trainer):
    name, convolution = module_of(trainer, torch.nn.Conv2d)
    before = convolution.weight.detach().clone()
    convolution.weight.data[0, 0, 0, 0] = float("nan")
    return lambda: convolution.weight.data.copy_(before), f"the parameter {name}.weight"


def infinite_gradient(trainer):
    name, convolution = module_of(trainer, torch.nn.Conv2d)
    hook = convolution.weight.register_hook(lambda grad: grad + float("inf"))
    return hook.remove, f"the gradient of {name}.weight"


def nan_pixels(trainer):
    def spoilt(module, batch):
        batch[0]["images"][3, 0, 5, 5] = float("nan")

    hook = model_of(trainer).register_forward_pre_hook(spoilt)
    return hook.remove, r"the image \S+\.png after augmentation"


def infinite_output(trainer):
    name, norm = module_of(trainer, torch.nn.BatchNorm2d)
    hook = norm.register_forward_hook(lambda module, inputs, output: output * float("inf"))
    return hook.remove, f"the output of {name}"


def nan_loss(trainer):
    losses = model_of(trainer).losses

    def spoilt(*args):
        return {**losses(*args), "loss_of_a_user": model_of(trainer).heads.weight.sum() * float("nan")}

    model_of(trainer).losses = spoilt
    return lambda: setattr(model_of(trainer), "losses", losses), "the loss loss_of_a_user"


FAULTS = [infinite_output, *(pytest.param(each, marks=pytest.mark.fault) for each in (
    nan_in_a_parameter, infinite_gradient, nan_pixels, nan_loss,
))]  # fmt: skip


@pytest.fixture
def cfg(baseline_cfg):
    baseline_cfg.SOLVER.CHECKPOINT_PERIOD = 1
    return baseline_cfg


@pytest.mark.parametrize("spoil", FAULTS)
def test_a_run_stops_at_that_step_and_names_the_first_bad_tensor(cfg, spoil):
    trainer, hook = start(cfg), Spoil(spoil)
    trainer.register_hooks([hook])
    with pytest.raises(NotFinite) as stopped:
        trainer.train()
    line = rf"iteration 3: {hook.named} is not finite \(losses: .*loss_cls .*\). The weights"
    assert re.match(line, str(stopped.value)), str(stopped.value)
    assert trainer.iter == SPOILT
    left = sorted(path.name for path in Path(cfg.OUTPUT_DIR).glob("*.pth"))
    assert left == ["model_0000.pth", "model_best.pth"]
    saved = torch.load(Path(cfg.OUTPUT_DIR, "model_0000.pth"), weights_only=False)["model"]
    assert all(value.isfinite().all() for value in saved.values())
    if spoil is not nan_in_a_parameter:
        names = {name for name, _ in model_of(trainer).named_parameters()}
        assert all(torch.equal(saved[name], value) for name, value in weights(trainer).items() if name in names)


def steps_of(optimizer) -> int:
    return max((int(state["step"]) for state in optimizer.state_dict()["state"].values()), default=0)


@pytest.mark.parametrize(
    "spoil",
    [infinite_output, *(pytest.param(each, marks=pytest.mark.fault) for each in (infinite_gradient, nan_pixels))],
)
def test_a_skipped_step_leaves_weights_statistics_and_optimiser_as_they_were(cfg, spoil, host_log):
    cfg.SOLVER.ON_NONFINITE = "skip"
    trainer, seen = start(cfg), {}

    class Look(HookBase):
        def before_step(self):
            seen[self.trainer.iter] = weights(trainer), steps_of(trainer.optimizer)

    trainer.register_hooks([Look(), Spoil(spoil)])
    trainer.train()
    (before, steps), (after, steps_after) = seen[SPOILT], seen[SPOILT + 1]
    assert before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())
    assert (steps, steps_after, steps_of(trainer.optimizer)) == (2, 2, 3)
    assert "This step is skipped (1 in a row, at most 10)" in host_log.text


@pytest.mark.fault
def test_too_many_skipped_steps_in_a_row_end_the_run(cfg):
    cfg.SOLVER.ON_NONFINITE, cfg.SOLVER.NONFINITE_LIMIT, cfg.SOLVER.MAX_EPOCH = "skip", 2, 4
    trainer = start(cfg)
    trainer.register_hooks([Spoil(infinite_gradient, iterations=(1, 3, 4, 5))])
    with pytest.raises(NotFinite, match="iteration 6: .* SOLVER.NONFINITE_LIMIT 2 steps in a row were skipped before"):
        trainer.train()


def test_a_gradient_whose_sum_overflows_is_still_finite(cfg):
    trainer = start(cfg)._trainer
    batch = random_batch()
    huge = torch.full((4,), 3e38)
    assert not huge.sum().isfinite()
    assert trainer.guard.passes(trainer, batch, {"loss": huge[0]})
    trainer.optimizer.param_groups[0]["params"][0].grad.fill_(3e38)
    assert trainer.guard.passes(trainer, batch, {"loss": huge[0]})
