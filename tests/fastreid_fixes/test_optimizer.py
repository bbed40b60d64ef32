import pytest
import torch
from fastreid.modeling import build_model
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage
from runs import start, weights
from tiny_data import random_batch


def baseline(cfg):
    cfg.MODEL.HEADS.NUM_CLASSES = 4
    torch.manual_seed(0)
    return build_model(cfg).train()


def train(model, optimizer, steps=3) -> list[float]:
    losses, dtype = [], next(model.parameters()).dtype
    with EventStorage() as storage:
        for storage.iter in range(steps):
            batch = random_batch(seed=storage.iter)
            loss = sum(model({**batch, "images": batch["images"].to(dtype)}).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["Adam", "SGD", "AdamW"])
def test_steps_of_fast_reid_equal_steps_of_plain_torch(baseline_cfg, raw_host, name):
    assert raw_host["change_of_all_weights_after_two_steps"] == 0.0
    baseline_cfg.SOLVER.OPT = name
    # float64: Adam divides by the size of the gradient, so that where it is near 0 rounding would decide on the step.
    # The rounding of float64 (1e-16) is small beside the 1e-8 that Adam adds to the divisor, on any CPU.
    ours, plain = baseline(baseline_cfg).double(), baseline(baseline_cfg).double()
    optimizer, _ = build_optimizer(baseline_cfg, ours)
    settings = {"lr": baseline_cfg.SOLVER.BASE_LR, "weight_decay": baseline_cfg.SOLVER.WEIGHT_DECAY}
    if name == "SGD":
        settings["momentum"] = baseline_cfg.SOLVER.MOMENTUM
    by_fastreid = train(ours, optimizer)
    by_torch = train(plain, getattr(torch.optim, name)(plain.parameters(), **settings))
    assert by_fastreid == pytest.approx(by_torch, rel=1e-9)
    # a thousandth of a step of Adam, which is BASE_LR where the gradient is not 0
    atol = 1e-3 * baseline_cfg.SOLVER.BASE_LR
    for (key, mine), theirs in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=atol, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name, expected", [("Adam", True), ("AdamW", True), ("SGD", None), ("Adagrad", None)])
def test_a_step_is_one_pass_where_torch_does_that_well(baseline_cfg, name, expected):
    baseline_cfg.SOLVER.OPT = name
    optimizer, _ = build_optimizer(baseline_cfg, baseline(baseline_cfg))
    assert {group.get("fused") for group in optimizer.param_groups} == {expected}
    # the scaler of float16 then leaves the scaling to the step, and need not wait for the device
    assert getattr(optimizer, "_step_supports_amp_scaling", False) == bool(expected)
    assert type(optimizer).__name__ == name


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_an_overflow_in_the_first_step_leaves_the_weights_finite(baseline_cfg, name):
    baseline_cfg.SOLVER.OPT = name
    model = baseline(baseline_cfg)
    optimizer, _ = build_optimizer(baseline_cfg, model)
    scaler, before = torch.amp.GradScaler("cpu"), model.backbone.conv1.weight.detach().clone()
    torch.full((2**22,), float("nan"))  # memory that is handed out next may hold anything
    for first in (True, False):
        with EventStorage():
            loss = sum(model(random_batch()).values())
        scaler.scale(loss * (float("inf") if first else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert torch.equal(model.backbone.conv1.weight, before) == first
    assert all(torch.isfinite(each).all() for each in model.parameters())


def test_clipped_gradients_are_unscaled_before(baseline_cfg):
    baseline_cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    optimizer, _ = build_optimizer(baseline_cfg, baseline(baseline_cfg))
    assert not getattr(optimizer, "_step_supports_amp_scaling", False)


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_state_of_a_plain_optimiser_goes_on_in_one_pass(baseline_cfg, contiguous):
    model = baseline(baseline_cfg)
    optimizer, _ = build_optimizer(baseline_cfg, model, contiguous)
    train(model, optimizer, steps=1)
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:  # torch's default, and that of earlier checkpoints
        group.update(fused=None, foreach=None)
    model = baseline(baseline_cfg)
    resumed, _ = build_optimizer(baseline_cfg, model, contiguous)
    resumed.load_state_dict(saved)
    assert all(group["fused"] is True for group in resumed.param_groups)
    train(model, resumed, steps=1)
    assert {float(state["step"]) for state in resumed.state_dict()["state"].values()} == {2.0}


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed precision"])
def test_training_changes_the_weights(baseline_cfg, mixed):
    if mixed:  # in bfloat16 on any CPU
        baseline_cfg.SOLVER.AMP.ENABLED, baseline_cfg.SOLVER.AMP.DTYPE = True, "bfloat16"
    trainer = start(baseline_cfg)
    before = weights(trainer)
    trainer.train()
    changed = [key for key, value in weights(trainer).items() if not torch.equal(value, before[key])]
    trainable = [key for key, parameter in trainer._trainer.model.named_parameters() if parameter.requires_grad]
    assert set(trainable) <= set(changed)


def test_torch_itself_is_left_alone():
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    torch.optim.Adam([parameter]).zero_grad()
    assert parameter.grad is None
