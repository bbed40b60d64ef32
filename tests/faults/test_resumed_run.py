"""A resumed run gives, bit by bit, the same results as a run that was never stopped."""

import random
import signal

import numpy as np
import pytest
import tiny_data
import torch
from fastreid.engine.train_loop import HookBase
from runs import logged, start

import igoas_plugin
from igoas_plugin.engine.signals import Interrupted

EPOCHS, STEPS = 4, 2


class Recorder(HookBase):
    """Hook that records each iteration: image paths, pixels, occlusion, and the next number of each generator."""

    def __init__(self):
        self.seen = {}

    def attach(self, trainer):
        trainer.register_hooks([self])
        forward = trainer._trainer.model.forward

        def recorded(batch):
            if trainer._trainer.model.training:
                drawn = (random.random(), float(np.random.rand()), float(torch.rand(1)))
                self.seen[trainer.iter] = (batch["img_paths"], batch["images"].clone(), drawn)
            return forward(batch)

        trainer._trainer.model.forward = recorded
        return trainer

    def after_step(self):
        storage = self.trainer.storage
        told = {name: value for name, (value, _) in storage.latest().items() if name.startswith("occlusion/")}
        self.seen[self.trainer.iter] = (*self.seen[self.trainer.iter], told)


def assert_same(first, second, where="") -> None:
    """Compares two values bit by bit, through tensors, lists and dicts."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for at, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{at}]")
    else:
        assert first == second, where


def demanding_cfg():
    """Returns a config with all that has a state: freezing, warm-up, steps, augmentation, identity sampler, average."""
    cfg = igoas_plugin.get_cfg()
    tiny_data.tiny_settings(cfg, "")
    cfg.SEED, cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME, cfg.MODEL.HEADS.EMBEDDING_DIM = (
        1,
        "IGOAS",
        "IGOASHead",
        32,
    )
    cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.CHECKPOINT_PERIOD = EPOCHS, 0
    cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.STEPS, cfg.SOLVER.BASE_LR = 3, [2, 3], 0.003
    cfg.MODEL.IGOAS.FREEZE_EPOCHS, cfg.SOLVER.EMA.ENABLED = 1, True
    cfg.INPUT.REA.ENABLED, cfg.INPUT.AUTOAUG.ENABLED, cfg.INPUT.AUTOAUG.PROB = True, True, 0.5
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.NUM_INSTANCE = "NaiveIdentitySampler", 2
    return cfg


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Returns the records of a run that was never stopped, and its final checkpoint."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    tiny_data.make_tiny_data(folder / "datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(folder / "datasets"))
        seen = run(demanding_cfg(), folder / "run")
        yield seen, torch.load(folder / "run" / "model_final.pth", weights_only=False)


@pytest.fixture
def run_cfg(uninterrupted):
    return demanding_cfg()


def run(cfg, folder, resume=False, until=None, prepare=lambda trainer: None):
    cfg = cfg.clone()
    cfg.OUTPUT_DIR = str(folder)
    recorder = Recorder()
    trainer = recorder.attach(start(cfg, resume))
    if until is not None:
        trainer.max_epoch = until
    prepare(trainer)
    trainer.train()
    return recorder.seen


@pytest.mark.parametrize("at", [1, 3])
def test_a_run_resumed_at_the_end_of_an_epoch_is_the_run_that_was_never_stopped(run_cfg, uninterrupted, tmp_path, at):
    seen, expected = uninterrupted
    first = run(run_cfg, tmp_path / "resumed", until=at)
    second = run(run_cfg, tmp_path / "resumed", resume=True)
    assert first.keys() == set(range(at * STEPS)) and second.keys() == set(range(at * STEPS, EPOCHS * STEPS))
    assert_same({**first, **second}, seen)
    assert_same(torch.load(tmp_path / "resumed" / "model_final.pth", weights_only=False), expected)


class Signal(HookBase):
    """Hook that sends a signal to this process before a step."""

    def __init__(self, at, number=signal.SIGTERM):
        self.at, self.number = at, number

    def before_step(self):
        if self.trainer.iter == self.at:
            signal.raise_signal(self.number)


@pytest.fixture
def ctrl_c_is_heard():
    """Handles Ctrl-C in the default way, because pytest-xdist lets its processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_heard")
@pytest.mark.parametrize(
    "number, at",
    [
        (signal.SIGINT, 2),  # the first step of an epoch
        (signal.SIGTERM, 3),  # its last
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.fault),
        pytest.param(signal.SIGINT, 3, marks=pytest.mark.fault),
    ],
)
def test_a_run_stopped_by_a_signal_goes_on_in_the_middle_of_the_epoch(
    run_cfg, uninterrupted, tmp_path, host_log, number, at
):
    seen, expected = uninterrupted
    folder, before = tmp_path / "stopped", signal.getsignal(number)
    with pytest.raises(Interrupted) as stopped:
        run(run_cfg, folder, prepare=lambda trainer: trainer.register_hooks([Signal(at, number)]))
    assert stopped.value.code == 128 + number and signal.getsignal(number) is before
    assert f"{number.name}: stopped after iteration {at + 1} of 8" in host_log.text
    second = run(run_cfg, folder, resume=True)
    assert second.keys() == set(range(at + 1, EPOCHS * STEPS))
    assert_same(second, {iteration: seen[iteration] for iteration in second})
    assert_same(torch.load(folder / "model_final.pth", weights_only=False), expected)
    assert not (folder / "model_interrupted.pth").exists()
    run_cfg.OUTPUT_DIR = str(folder)
    ends = [line["iteration"] for line in logged(run_cfg) if "Rank-1" in line]
    assert ends == [STEPS * (epoch + 1) - 1 for epoch in range(EPOCHS)]


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.fault), EPOCHS - 1])
def test_a_signal_during_an_evaluation_stops_it_at_once_and_a_resume_makes_it_up(
    run_cfg, uninterrupted, tmp_path, monkeypatch, epoch
):
    seen, expected = uninterrupted

    def signal_while_it_evaluates(trainer):
        test = trainer.test

        def interrupted(cfg, model):
            if trainer.epoch == epoch:
                signal.raise_signal(signal.SIGTERM)
                raise AssertionError("the evaluation went on")
            return test(cfg, model)

        trainer.test = interrupted

    with pytest.raises(Interrupted):
        run(run_cfg, tmp_path / "stopped", prepare=signal_while_it_evaluates)
    run(run_cfg, tmp_path / "stopped", resume=True)
    assert_same(torch.load(tmp_path / "stopped" / "model_final.pth", weights_only=False), expected)
    run_cfg.OUTPUT_DIR = str(tmp_path / "stopped")
    assert [line["iteration"] for line in logged(run_cfg) if "Rank-1" in line] == [1, 3, 5, 7]


def test_order_and_augmentation_do_not_depend_on_the_number_of_workers(run_cfg, tmp_path):
    run_cfg.SOLVER.MAX_EPOCH = 1
    alone = run(run_cfg, tmp_path / "alone")
    run_cfg.DATALOADER.NUM_WORKERS = 2
    assert_same(run(run_cfg, tmp_path / "workers"), alone)


@pytest.mark.parametrize("sampler", ["TrainingSampler", "BalancedIdentitySampler", "ImbalancedDatasetSampler"])
def test_every_sampler_of_the_host_goes_on_where_it_was(baseline_cfg, tmp_path, sampler):
    baseline_cfg.DATALOADER.SAMPLER_TRAIN, baseline_cfg.DATALOADER.NUM_INSTANCE = sampler, 2
    baseline_cfg.SOLVER.CHECKPOINT_PERIOD, baseline_cfg.INPUT.REA.ENABLED = 1, True
    whole = run(baseline_cfg, tmp_path / "whole")
    run(baseline_cfg, tmp_path / "resumed", until=1)
    resumed = run(baseline_cfg, tmp_path / "resumed", resume=True)
    assert_same(resumed, {iteration: whole[iteration] for iteration in (2, 3)})
