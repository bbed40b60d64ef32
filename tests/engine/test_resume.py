import logging
import re
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastreid.config import get_cfg
from fastreid.engine.hooks import LRScheduler
from fastreid.solver import build_lr_scheduler
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import EventStorage
from runs import logged, start, weights

from igoas_plugin.core.errors import InputError
from igoas_plugin.engine.checkpoints import continue_schedules
from igoas_plugin.preflight import check_run


def test_a_finished_run_says_so_and_evaluates(baseline_cfg, raw_host, host_log):
    assert raw_host["resuming_a_finished_run"].startswith("AttributeError")
    first = start(baseline_cfg)
    results = first.train()
    before = weights(first)
    again = start(baseline_cfg, resume=True)
    assert again.train() == results
    assert all(torch.equal(value, before[key]) for key, value in weights(again).items())
    assert "nothing is trained" in host_log.text


def test_resuming_goes_on_at_the_right_epoch_with_the_same_optimiser(igoas_cfg, tmp_path):
    igoas_cfg.SOLVER.MAX_EPOCH = 1
    start(igoas_cfg).train()
    igoas_cfg.SOLVER.MAX_EPOCH = 3
    resumed = start(igoas_cfg, resume=True)
    assert resumed.start_epoch == 1
    assert all(state["step"] == 2 for state in resumed.optimizer.state_dict()["state"].values())
    resumed.train()
    iterations = [line["iteration"] for line in logged(igoas_cfg)]
    assert iterations == [1, 3, 5]


def first_batch(cfg, resume=False) -> torch.Tensor:
    return next(start(cfg, resume)._trainer._data_loader_iter)["images"]


def test_a_resumed_run_sees_other_batches_than_its_first_epoch_the_same_on_every_resume(baseline_cfg):
    baseline_cfg.SOLVER.MAX_EPOCH = 1
    start(baseline_cfg).train()
    resumed, again, first = first_batch(baseline_cfg, True), first_batch(baseline_cfg, True), first_batch(baseline_cfg)
    assert torch.equal(resumed, again) and not torch.equal(resumed, first)


def test_another_number_of_identities_cannot_be_resumed(baseline_cfg):
    baseline_cfg.SOLVER.MAX_EPOCH = 1
    start(baseline_cfg).train()
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 7
    with pytest.raises(InputError, match=r"heads.weight has shape \(4, 64\), not \(7, 64\)"):
        start(baseline_cfg, resume=True)


@pytest.mark.parametrize("before, after", [("Adam", "SGD"), ("SGD", "Adam")])
def test_another_optimiser_cannot_be_resumed(baseline_cfg, before, after):
    baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.SOLVER.OPT = 1, before
    start(baseline_cfg).train()
    baseline_cfg.SOLVER.OPT = after
    with pytest.raises(InputError, match="model_final.pth cannot be resumed with other SOLVER or FREEZE settings"):
        start(baseline_cfg, resume=True)


@pytest.mark.parametrize("state", [7, None, [], {"state": 7, "param_groups": None}])
def test_what_is_no_state_of_an_optimiser_cannot_be_resumed(baseline_cfg, state):
    baseline_cfg.SOLVER.MAX_EPOCH = 1
    start(baseline_cfg).train()
    path = f"{baseline_cfg.OUTPUT_DIR}/model_final.pth"
    torch.save({**torch.load(path, weights_only=True), "optimizer": state}, path)
    with pytest.raises(InputError, match="model_final.pth cannot be resumed"):
        start(baseline_cfg, resume=True)


def test_nothing_to_resume_is_said(baseline_cfg, host_log, raw_host):
    assert raw_host["warnings_where_there_is_nothing_to_resume"] == 0
    start(baseline_cfg, resume=True)
    assert "has no last_checkpoint; training starts at epoch 1" in host_log.text


def test_other_settings_of_the_optimiser_cannot_be_resumed(baseline_cfg):
    baseline_cfg.SOLVER.MAX_EPOCH = 1
    start(baseline_cfg).train()
    baseline_cfg.SOLVER.MAX_EPOCH = 2
    resume = Namespace(resume=True, eval_only=False, num_gpus=1, num_machines=1)
    check_run(baseline_cfg, resume)
    baseline_cfg.SOLVER.HEADS_LR_FACTOR = 2.0  # one group of parameters more
    with pytest.raises(InputError, match="model_final.pth cannot be resumed with other SOLVER or FREEZE settings"):
        check_run(baseline_cfg, resume)
    with pytest.raises(InputError, match="model_final.pth cannot be resumed with other SOLVER or FREEZE settings"):
        start(baseline_cfg, resume=True)


def test_other_frozen_layers_cannot_be_resumed(baseline_cfg):
    baseline_cfg.MODEL.FREEZE_LAYERS, baseline_cfg.SOLVER.FREEZE_ITERS = ["backbone"], 4
    baseline_cfg.SOLVER.MAX_EPOCH = 4
    trainer = start(baseline_cfg)
    trainer.max_epoch = 3
    trainer.train()
    baseline_cfg.MODEL.FREEZE_LAYERS = ["backbone.conv1"]  # as many groups, other parameters in them
    with pytest.raises(InputError, match="cannot be resumed with other SOLVER or FREEZE settings"):
        start(baseline_cfg, resume=True)


@pytest.mark.parametrize(
    "key, before, after, told",
    [
        ("BASE_LR", 0.001, 0.002, "initial_lr 0.001"),
        ("WEIGHT_DECAY", 0.05, 0.1, "weight_decay 0.0, 0.05"),
        ("STEPS", [1], [2], "milestones Counter.*1: 1"),
        ("WARMUP_ITERS", 3, 1, "warmup_iters 3"),
        ("WARMUP_METHOD", "exp", "linear", "warmup_method exp"),
    ],
)
def test_settings_that_a_resume_cannot_change_are_named(baseline_cfg, host_log, key, before, after, told):
    for name in ("BASE_LR", "WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS"):
        baseline_cfg.SOLVER[name] = 0.0 if "DECAY" in name else 0.001
    baseline_cfg.SOLVER.WARMUP_ITERS, baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.SOLVER[key] = 3, 1, before
    start(baseline_cfg).train()
    start(baseline_cfg, resume=True)
    assert "it has no effect" not in host_log.text
    baseline_cfg.SOLVER[key] = after
    start(baseline_cfg, resume=True)
    assert re.search(f"it has no effect: {told}", host_log.text)


SCHEDULES = [
    (schedule, warm_up, delay, epochs)
    for schedule in ("CosineAnnealingLR", "MultiStepLR")
    for warm_up in (None, "linear", "constant", "exp")
    for delay in (0, 2)
    for epochs in (5, 9)  # shorter and longer than the 7 of the run that is resumed
]
STEPS = 3  # of an epoch


class ScheduledRun:
    """The learning rates of a run of fast-reid's hook, without a model, of two groups."""

    def __init__(self, folder, schedule, warm_up, delay, epochs, warm_up_steps=4, steps=STEPS):
        cfg = get_cfg()
        cfg.SOLVER.SCHED, cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.DELAY_EPOCHS = schedule, epochs, delay
        cfg.SOLVER.STEPS, cfg.SOLVER.ETA_MIN_LR = [2, 4], 1e-7
        cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WARMUP_METHOD = (warm_up_steps, warm_up) if warm_up else (0, "linear")
        model = torch.nn.Linear(1, 1)
        groups = [{"params": [model.weight], "lr": 1e-3}, {"params": [model.bias], "lr": 5e-4}]
        self.optimizer = torch.optim.SGD(groups)
        schedules = build_lr_scheduler(cfg, self.optimizer, steps)
        self.hook = LRScheduler(self.optimizer, schedules)
        self.checkpointer = Checkpointer(model, str(folder), optimizer=self.optimizer, **schedules)
        self.hook.trainer = SimpleNamespace(
            warmup_iters=cfg.SOLVER.WARMUP_ITERS, delay_epochs=delay, iter=0, iters_per_epoch=steps, scheduler=schedules
        )

    def resume(self, done: int) -> None:
        """Continues after `done` epochs, as Trainer.resume_or_load() does."""
        trainer, length = self.hook.trainer, getattr(self.hook.trainer.scheduler["lr_sched"], "T_max", None)
        checkpoint = self.checkpointer.resume_or_load("", resume=True)
        trainer.start_epoch, trainer.iter = done, done * trainer.iters_per_epoch
        trainer.resumed_iter = trainer.iter
        continue_schedules(trainer, checkpoint, length)

    def train(self, first: int, end: int) -> list[tuple[float, float]]:
        """Trains epochs; returns the rates of both groups in each step."""
        trainer, rates = self.hook.trainer, []
        with EventStorage() as trainer.storage:
            for trainer.epoch in range(first, end):
                for _ in range(trainer.iters_per_epoch):
                    rates.append(tuple(group["lr"] for group in self.optimizer.param_groups))
                    self.optimizer.step()
                    self.hook.after_step()
                    trainer.iter += 1
                self.hook.after_epoch()
        return rates


@pytest.mark.parametrize("schedule, warm_up, delay, epochs", SCHEDULES)
def test_a_resumed_schedule_has_the_rates_of_a_run_that_always_had_its_length(
    tmp_path, host_log, schedule, warm_up, delay, epochs
):
    settings = schedule, warm_up, delay
    expected = ScheduledRun(tmp_path, *settings, epochs).train(0, epochs)
    failures = []
    for done in range(1, epochs):
        host_log.clear()
        before = ScheduledRun(tmp_path, *settings, 7)
        before.train(0, done)
        before.checkpointer.save("model")
        resumed = ScheduledRun(tmp_path, *settings, epochs)
        resumed.resume(done)
        # torch multiplies the rate of the epoch before, so that the last digits differ
        wanted = pytest.approx(np.array(expected[done * STEPS :]), rel=1e-9)
        if resumed.train(done, epochs) != wanted:
            failures.append(done)
        assert host_log.text.count("The cosine schedule takes") == (1 if schedule == "CosineAnnealingLR" else 0)
    assert not failures


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("schedule", ["CosineAnnealingLR", "MultiStepLR"])
def test_other_iterations_an_epoch_and_another_warm_up_change_no_rate_after_the_warm_up(
    tmp_path, host_log, schedule, delay
):
    whole = ScheduledRun(tmp_path, schedule, "linear", delay, 10, 40, 10).train(0, 10)
    first = ScheduledRun(tmp_path, schedule, "linear", delay, 10, 40, 10)
    first.train(0, 5)
    first.checkpointer.save("model")
    for warm_up_steps, steps in [(40, 40), (40, 4), (20, 10), (200, 40), (80, 10), (0, 10)]:
        resumed = ScheduledRun(tmp_path, schedule, warm_up_steps and "linear", delay, 10, warm_up_steps, steps)
        resumed.resume(5)
        rates = resumed.train(5, 10)
        assert rates == pytest.approx(np.repeat(whole[50::10], steps, axis=0), rel=1e-9), (warm_up_steps, steps)
    assert "cosine schedule takes" not in host_log.text


@pytest.mark.parametrize("schedule", ["CosineAnnealingLR", "MultiStepLR"])
@pytest.mark.parametrize("steps", [4, 40])
def test_a_warm_up_that_is_resumed_with_other_iterations_an_epoch_takes_the_steps_that_are_left(
    tmp_path, schedule, steps
):
    settings = schedule, "linear", 0, 12, 40
    whole = ScheduledRun(tmp_path, *settings, 10).train(0, 12)
    first = ScheduledRun(tmp_path, *settings, 10)
    first.train(0, 3)
    first.checkpointer.save("model")
    resumed = ScheduledRun(tmp_path, *settings, steps)
    resumed.resume(3)
    rates = resumed.train(3, 12)
    assert rates[:10] == pytest.approx(np.array(whole[30:40]), rel=1e-9) and rates[10] == (1e-3, 5e-4)
    ends = (1e-7, 1e-7) if schedule == "CosineAnnealingLR" else (1e-5, 5e-6)
    assert rates[-1] == pytest.approx(ends, rel=1e-6)


@pytest.mark.parametrize("schedule", ["CosineAnnealingLR", "MultiStepLR"])
def test_a_warm_up_that_the_config_has_no_longer_ends_at_the_resume(tmp_path, host_log, schedule):
    first = ScheduledRun(tmp_path, schedule, "linear", 0, 10, 40, 10)
    first.train(0, 2)
    first.checkpointer.save("model")
    resumed = ScheduledRun(tmp_path, schedule, None, 0, 10, 0, 10)
    resumed.resume(2)
    rates = resumed.train(2, 10)
    assert rates[0] == (1e-3, 5e-4)
    ends = (1e-7, 1e-7) if schedule == "CosineAnnealingLR" else (1e-5, 5e-6)
    assert rates[-1] == pytest.approx(ends, rel=1e-6)
    assert host_log.text.count("ends here, because SOLVER.WARMUP_ITERS is 0: the learning rate is 0.001") == 1


def test_a_warm_up_that_the_checkpoint_does_not_have_is_left_out(tmp_path, host_log):
    whole = ScheduledRun(tmp_path, "MultiStepLR", None, 0, 5).train(0, 5)
    first = ScheduledRun(tmp_path, "MultiStepLR", None, 0, 5)
    first.train(0, 1)
    first.checkpointer.save("model")
    resumed = ScheduledRun(tmp_path, "MultiStepLR", "linear", 0, 5, 9)
    resumed.resume(1)
    assert resumed.train(1, 5) == pytest.approx(np.array(whole[STEPS:]), rel=1e-9)
    assert host_log.text.count("saved without a warm-up, and SOLVER.WARMUP_ITERS has no effect") == 1


def test_a_finished_cosine_run_with_more_epochs_does_not_climb_back(baseline_cfg, host_log):
    baseline_cfg.SOLVER.SCHED, baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.SOLVER.BASE_LR = "CosineAnnealingLR", 2, 1e-3
    start(baseline_cfg).train()
    baseline_cfg.SOLVER.MAX_EPOCH = 4
    host_log.set_level(logging.INFO)
    start(baseline_cfg, resume=True).train()
    assert [line["lr"] for line in logged(baseline_cfg)] == pytest.approx([1e-3, 5e-4, 5e-4, 1.464e-4], rel=1e-3)
    assert (
        "takes 4 epochs after the warm-up now, not 2, so that it ends with the run; 2 are done, and the learning rate "
        "is 0.0005" in host_log.text
    )
    assert "it has no effect" not in host_log.text


@pytest.mark.parametrize("saved, now, epochs", [(4, 3, 3), (8, 0, 2)])
def test_a_warm_up_that_is_resumed_ends_at_the_full_rate_whatever_the_config_says_now(baseline_cfg, saved, now, epochs):
    baseline_cfg.SOLVER.WARMUP_ITERS, baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.SOLVER.BASE_LR = saved, 1, 1e-3
    baseline_cfg.SOLVER.STEPS = [30]
    start(baseline_cfg).train()
    baseline_cfg.SOLVER.WARMUP_ITERS, baseline_cfg.SOLVER.MAX_EPOCH = now, epochs
    start(baseline_cfg, resume=True).train()
    assert logged(baseline_cfg)[-1]["lr"] == pytest.approx(1e-3)
