import itertools
import logging
from types import SimpleNamespace

import pytest
import torch
from fastreid.engine.hooks import EvalHook, PreciseBN
from fastreid.engine.train_loop import HookBase
from runs import start, stop_at, weights
from tiny_data import use_resnet
from torch import nn
from torch.testing import assert_close

import igoas_plugin
from igoas_plugin.core.errors import InputError
from igoas_plugin.engine import distributed
from igoas_plugin.engine.ema import WeightAverage, tensors_of
from igoas_plugin.engine.signals import Interrupted

DECAY = 0.25  # reached by the warm-up in the second update: 2 / 11, 3 / 12


def averages(records: list[dict], decay=DECAY) -> dict:
    """Returns the average of the weights after each step, by a slow loop in float64; integers are the last ones."""
    mean = {}
    for name in records[0]:
        values = [record[name] for record in records]
        mean[name] = values[-1] if not values[0].is_floating_point() else values[0].double()
        for n, value in enumerate(values[1:], 1):
            if value.is_floating_point():
                weight = min(decay, (1 + n) / (10 + n))
                mean[name] = weight * mean[name] + (1 - weight) * value.double()
    return {name: value.to(records[0][name].dtype) for name, value in mean.items()}


def assert_equal(first: dict, second: dict) -> None:
    """Compares tensors by name, bit by bit."""
    assert first.keys() == second.keys()
    assert [name for name, value in first.items() if not value.equal(second[name])] == []


@pytest.fixture
def ema_cfg(igoas_cfg):
    igoas_cfg.SOLVER.EMA.ENABLED, igoas_cfg.SOLVER.EMA.DECAY, igoas_cfg.SOLVER.BASE_LR = True, DECAY, 0.003
    return igoas_cfg


class Recorder(HookBase):
    """Hook that records the weights after each step and the tensors of the average in each evaluation."""

    def __init__(self, trainer):
        self.steps, self.evaluated = [], []
        self.model = trainer._trainer.model
        trainer.register_hooks([self])
        forward = self.model.forward

        def recorded(batch):
            if not self.model.training:
                self.evaluated.append(self.state())
            return forward(batch)

        self.model.forward = recorded

    def state(self) -> dict:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def after_step(self):
        self.steps.append(self.state())


def content(cfg, name="model_final.pth") -> dict:
    return torch.load(f"{cfg.OUTPUT_DIR}/{name}", weights_only=True)


def test_the_average_is_that_of_a_slow_loop_from_its_first_epoch_on_without_skipped_steps():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    guard, records, seen = SimpleNamespace(skipped=0), [], []
    hook = WeightAverage(model, decay=0.3, start=1)
    for iteration in range(9):
        hook.trainer = SimpleNamespace(epoch=iteration // 3, _trainer=SimpleNamespace(guard=guard))
        guard.skipped = int(iteration == 5)
        model(torch.randn(8, 3))
        with torch.no_grad():
            model[0].weight += torch.randn(4, 3)
        hook.after_step()
        raw = {name: value.detach().clone() for name, value in model.state_dict().items()}
        with hook.in_place():
            seen.append({name: value.detach().clone() for name, value in model.state_dict().items()})
        assert_equal(raw, model.state_dict())
        if iteration < 3:
            assert_equal(seen[-1], raw)
        elif iteration != 5:
            records.append(raw)
        else:
            assert_equal(seen[-1], seen[-2])
        if records:
            assert_close(seen[-1], averages(records, 0.3), rtol=1e-6, atol=1e-6)  # rounding of float32
    assert hook.updates == 5 and seen[-1]["1.num_batches_tracked"] == 9


def test_a_tensor_with_two_names_is_averaged_once():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    model[1].weight = model[0].weight
    hook = WeightAverage(model)
    hook.update()
    with torch.no_grad():
        model[0].weight.zero_()
    with hook.in_place():
        assert model[0].weight.count_nonzero() == 4 and len(tensors_of(model)) == 3
    assert model[0].weight.count_nonzero() == 0


def test_an_evaluation_and_every_checkpoint_have_the_average_and_the_training_is_not_disturbed(ema_cfg, tmp_path):
    ema_cfg.SOLVER.CHECKPOINT_PERIOD, ema_cfg.SOLVER.MAX_EPOCH = 1, 3
    trainer = start(ema_cfg)
    recorder = Recorder(trainer)
    results = trainer.train()
    assert len(recorder.steps) == 6 and len(recorder.evaluated) == 3 * 3  # batches of an evaluation
    for epoch, name in enumerate(["model_0000.pth", "model_0001.pth", "model_final.pth"]):
        saved, done = content(ema_cfg, name), 2 * (epoch + 1)
        assert_close(saved["model"], averages(recorder.steps[:done]), rtol=1e-6, atol=1e-7)  # rounding of float32
        assert_equal(saved["ema"]["raw_weights"], recorder.steps[done - 1])
        assert saved["ema"]["updates"] == done
        for evaluated in recorder.evaluated[3 * epoch : 3 * epoch + 3]:
            assert_equal(evaluated, saved["model"])
    best = content(ema_cfg, "model_best.pth")
    assert "ema" not in best
    assert_equal(best["model"], recorder.evaluated[3 * best["epoch"]])
    # a script evaluates once more; a resume of the finished run as well
    assert trainer.test(ema_cfg, trainer.model) == results
    assert_equal(recorder.evaluated[-1], saved["model"])
    assert start(ema_cfg, resume=True).train() == results
    ema_cfg.SOLVER.EMA.ENABLED, ema_cfg.OUTPUT_DIR = False, str(tmp_path / "plain")
    plain = start(ema_cfg)
    plain.train()
    assert_equal(weights(plain), recorder.steps[-1])
    assert "ema" not in content(ema_cfg)


def test_the_predictor_gives_the_descriptors_of_the_average(ema_cfg):
    trainer = start(ema_cfg)
    trainer.train()
    images = torch.randint(0, 256, (3, 32, 16, 3), dtype=torch.uint8)
    with trainer.weight_average.in_place(), torch.no_grad():
        expected = trainer.model.eval()({"images": images.permute(0, 3, 1, 2).float()})
    descriptors = igoas_plugin.Predictor(ema_cfg.OUTPUT_DIR)(images.numpy())
    assert_close(torch.from_numpy(descriptors), nn.functional.normalize(expected), rtol=1e-5, atol=1e-6)  # batch size
    with torch.no_grad():
        raw = trainer.model({"images": images.permute(0, 3, 1, 2).float()})
    assert (raw - expected).abs().max() > 1e-3


def test_in_mixed_precision_the_average_has_the_dtype_of_the_weights(ema_cfg, dtype_of_cpu):
    ema_cfg.SOLVER.AMP.ENABLED, ema_cfg.SOLVER.MAX_EPOCH = True, 1
    trainer = start(ema_cfg)
    recorder = Recorder(trainer)
    trainer.train()
    assert (trainer._trainer.dtype or torch.float32) == dtype_of_cpu
    assert_close(content(ema_cfg)["model"], averages(recorder.steps), rtol=1e-6, atol=1e-7)  # rounding of float32


def test_no_signal_ends_an_evaluation_between_two_tensors(ema_cfg, monkeypatch):
    exchange, at_once = WeightAverage.exchange, []

    def recorded(hook):
        at_once.append(hook.trainer.stop_on_signal.at_once)
        exchange(hook)

    monkeypatch.setattr(WeightAverage, "exchange", recorded)
    start(ema_cfg).train()
    assert len(at_once) > 4 and not any(at_once)


@pytest.mark.parametrize("architecture", ["MGN", "MoCo"])
def test_other_architectures_are_averaged_too(baseline_cfg, architecture):
    cfg = baseline_cfg
    cfg.MODEL.META_ARCHITECTURE, cfg.SOLVER.EMA.ENABLED, cfg.SOLVER.MAX_EPOCH = architecture, True, 1
    if architecture == "MGN":  # made for a ResNet of bottlenecks, and for maps of three rows
        use_resnet(cfg, "short")
        cfg.MODEL.HEADS.EMBEDDING_DIM, cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST = 16, [96, 32], [96, 32]
    trainer = start(cfg)
    recorder = Recorder(trainer)
    trainer.train()
    assert_close(content(cfg)["model"], averages(recorder.steps), rtol=1e-6, atol=1e-7)  # rounding of float32
    assert_equal(recorder.evaluated[-1], content(cfg)["model"])


def test_a_step_that_is_skipped_is_no_update(ema_cfg, host_log):
    ema_cfg.SOLVER.ON_NONFINITE = "skip"
    trainer = start(ema_cfg)
    recorder, images = Recorder(trainer), trainer._trainer._data_loader_iter

    def spoilt():
        for number, batch in enumerate(images):
            yield {**batch, "images": batch["images"] * float("nan")} if number == 1 else batch

    trainer._trainer._data_loader_iter = spoilt()
    trainer.train()
    assert "This step is skipped" in host_log.text and content(ema_cfg)["ema"]["updates"] == 3
    taken = [recorder.steps[step] for step in (0, 2, 3)]
    assert_close(content(ema_cfg)["model"], averages(taken), rtol=1e-6, atol=1e-7)  # rounding of float32


def test_precise_bn_computes_the_statistics_of_the_average_and_leaves_those_of_the_training(ema_cfg, monkeypatch):
    ema_cfg.TEST.PRECISE_BN.ENABLED, ema_cfg.TEST.PRECISE_BN.NUM_ITER = True, 2
    ema_cfg.TEST.PRECISE_BN.DATASET = "TinyReID"
    update, seen = PreciseBN.update_stats, []

    def recorded(hook):
        seen.append(recorder.state())
        update(hook)
        seen.append(recorder.state())

    monkeypatch.setattr(PreciseBN, "update_stats", recorded)
    trainer = start(ema_cfg)
    recorder = Recorder(trainer)
    trainer.train()
    before, after = seen
    saved, statistic = content(ema_cfg), "backbone.bn1.running_var"
    assert_close(before, averages(recorder.steps), rtol=1e-6, atol=1e-7)  # rounding of float32
    assert not after[statistic].equal(before[statistic])
    assert_equal(saved["model"], after)
    assert_equal(recorder.evaluated[-1], after)
    assert_equal(saved["ema"]["raw_weights"], recorder.steps[-1])


@pytest.mark.parametrize("at", ["the end of an epoch", "the middle of an epoch", "an evaluation"])
def test_a_resumed_run_has_raw_and_averaged_weights_of_one_that_was_never_stopped(ema_cfg, tmp_path, at):
    ema_cfg.SOLVER.MAX_EPOCH, ema_cfg.SOLVER.EMA.START, ema_cfg.SOLVER.CHECKPOINT_PERIOD = 3, 1, 1
    start(ema_cfg).train()
    whole = content(ema_cfg)
    ema_cfg.OUTPUT_DIR = str(tmp_path / "stopped")
    trainer = start(ema_cfg)
    if at == "the end of an epoch":
        stop_at(trainer, 4)
    elif at == "the middle of an epoch":
        run_step = trainer.run_step
        trainer.run_step = lambda: (run_step(), trainer.iter == 2 and trainer.stop_on_signal.on_signal(15, None))
    else:
        [evaluation] = [hook for hook in trainer._hooks if isinstance(hook, EvalHook)]
        evaluation._func = lambda: trainer.epoch == 1 and trainer.stop_on_signal.on_signal(15, None)
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        trainer.train()
    assert not trainer.weight_average.applied
    resumed = start(ema_cfg, resume=True)
    assert resumed.resumed_iter == {"the middle of an epoch": 3}.get(at, 4)
    resumed.train()
    again = content(ema_cfg)
    assert_equal(again["model"], whole["model"])
    assert_equal(again["ema"]["raw_weights"], whole["ema"]["raw_weights"])
    assert again["ema"]["updates"] == whole["ema"]["updates"] == 4
    assert not whole["model"]["backbone.conv1.weight"].equal(whole["ema"]["raw_weights"]["backbone.conv1.weight"])


def test_a_run_is_resumed_with_ema_switched_on_or_off(ema_cfg, host_log):
    host_log.set_level(logging.INFO)
    raw, lines_of_a_resume = {}, {True: "begins now: the checkpoint was saved without", False: "ends, because"}
    for enabled, resume in ((False, False), (True, True), (False, True)):
        ema_cfg.SOLVER.EMA.ENABLED = enabled
        ema_cfg.SOLVER.MAX_EPOCH += 1
        host_log.clear()
        trainer = start(ema_cfg, resume=resume)
        lines = [each for each in host_log.messages if each.startswith("average")]
        assert len(lines) == resume and all(lines_of_a_resume[enabled] in each for each in lines)
        recorder = Recorder(trainer)
        if resume:
            assert_equal(recorder.state(), raw)
        trainer.train()
        raw = recorder.steps[-1]
        if enabled:
            assert content(ema_cfg)["ema"]["updates"] == len(recorder.steps) == 2
            assert_close(content(ema_cfg)["model"], averages(recorder.steps), rtol=1e-6, atol=1e-7)  # of float32
        else:
            assert_equal(content(ema_cfg)["model"], raw)


def test_what_is_no_state_of_an_average_cannot_be_resumed(ema_cfg):
    ema_cfg.SOLVER.MAX_EPOCH = 1
    start(ema_cfg).train()
    whole = content(ema_cfg)
    wrong_shape = {**whole["ema"]["raw_weights"], "backbone.conv1.weight": torch.ones(1)}
    for raw, enabled in itertools.product((7, {"a": 7}, wrong_shape, None), (True, False)):
        state = {"updates": 2, "raw_weights": raw} if raw else 7
        torch.save({**whole, "ema": state}, f"{ema_cfg.OUTPUT_DIR}/model_final.pth")
        ema_cfg.SOLVER.EMA.ENABLED = enabled
        with pytest.raises(InputError, match="model_final.pth cannot be resumed"):
            start(ema_cfg, resume=True)


def test_the_statistics_of_the_average_are_the_mean_of_all_processes(monkeypatch):
    model = nn.BatchNorm1d(2)
    hook = WeightAverage(model)
    hook.update()
    model.running_mean.fill_(5.0)
    monkeypatch.setattr("fastreid.utils.comm.get_world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda each: each.add_(4.0))  # the other process has 4
    hook.after_epoch()
    assert model.running_mean.tolist() == [5.0, 5.0]
    assert hook.average["running_mean"].tolist() == [2.0, 2.0]  # (0 + 4) / 2
    assert hook.average["running_var"].tolist() == [2.5, 2.5]  # (1 + 4) / 2
