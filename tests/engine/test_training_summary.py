import logging
import os
import re
import signal
from types import SimpleNamespace

import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.utils.checkpoint import Checkpointer
from runs import logged, start, stop_at
from tiny_data import TinyReID
from torch import nn

from igoas_plugin.engine import training_summary
from igoas_plugin.engine.signals import Interrupted


@pytest.fixture
def told(host_log):
    """Returns a function that runs a trainer and returns its summary, {row: text}, with the title under ''."""

    def run(trainer) -> dict[str, str]:
        host_log.set_level(logging.INFO)
        host_log.clear()
        trainer.train()
        return read(host_log)

    return run


def read(host_log) -> dict[str, str]:
    [text] = [record.getMessage() for record in host_log.records if record.getMessage().startswith("Training ")]
    first, *rows = text.splitlines()
    return {"": first, **dict(re.split("  +", row, maxsplit=1) for row in rows)}


class Attributes:
    """Data set of a project with targets of its own, such as FastAttr's."""

    num_classes = 26

    def __len__(self):
        return 16


def best_logged(cfg) -> str:
    """Returns the expected row of the best metric in metrics.json; an epoch has two steps."""
    evaluated = [line for line in logged(cfg) if "metric" in line]
    best = max(evaluated, key=lambda line: line["metric"])
    epoch = (best["iteration"] + 1) // 2
    return f"{best['metric']:.1f}, the mean of Rank-1 and mAP on {cfg.DATASETS.TESTS[0]}, after epoch {epoch}"


def test_a_training_ends_with_what_was_trained_how_long_it_took_and_what_came_of_it(baseline_cfg, told, raw_host):
    assert [line.split(":")[0] for line in raw_host["told_at_the_end_of_a_training"]] == [
        "Overall training speed", "Total training time",
    ]  # fmt: skip
    summary = told(start(baseline_cfg))
    assert summary[""] == "Training is done"
    assert summary["model"] == "Baseline, tiny tiny"  # of build_tiny_backbone
    assert summary["data"] == "TinyReID: 16 images of 4 identities"
    assert summary["epochs"] == "2 of 2" and summary["iterations"] == "4 of 4, each of 8 images"
    assert re.match(r"\d+:\d\d:\d\d, \d+:\d\d:\d\d of it between the steps", summary["duration"])
    assert float(re.match(r"([\d.]+) images/s", summary["speed"])[1]) > 0
    assert summary["best"] == best_logged(baseline_cfg)
    # resumed, with the weights as they are: the best one is of the first training
    baseline_cfg.SOLVER.MAX_EPOCH = 3
    trainer = start(baseline_cfg, resume=True)
    trainer._trainer.optimizer.step = lambda: None
    summary = told(trainer)
    assert summary["epochs"] == "3 of 3, resumed after epoch 2" and summary["iterations"].startswith("6 of 6")
    assert summary["best"] == best_logged(baseline_cfg)


def test_the_data_of_a_project_has_classes_where_its_targets_are_no_identities(baseline_cfg):
    baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.TEST.EVAL_PERIOD = 1, 0
    trainer = start(baseline_cfg)
    trainer.train()
    trainer._trainer.data_loader = SimpleNamespace(dataset=Attributes())
    rows = dict(training_summary.summary(trainer, seconds=2.0, outside=1.0))
    assert rows["data"] == "TinyReID: 16 images of 26 classes"


def test_a_training_that_is_stopped_says_so_and_claims_no_best_of_an_earlier_one(baseline_cfg, told, host_log):
    os.makedirs(baseline_cfg.OUTPUT_DIR)
    Checkpointer(nn.Linear(1, 1), baseline_cfg.OUTPUT_DIR).save("model_best", epoch=7, metric=99.0)
    trainer = stop_at(start(baseline_cfg), 1)
    with pytest.raises(KeyboardInterrupt):
        told(trainer)
    summary = read(host_log)
    assert summary[""] == "Training stopped before its end"
    assert summary["epochs"] == "0 of 2" and summary["iterations"] == "1 of 4, each of 8 images"
    assert summary.keys() == {"", "model", "data", "epochs", "iterations", "duration"}


def test_a_training_that_a_signal_stops_tells_one_number_of_iterations(baseline_cfg, told, host_log):
    trainer = start(baseline_cfg)
    step = trainer.run_step

    def run_step():
        step()
        trainer.stop_on_signal.signal = signal.SIGTERM

    trainer.run_step = run_step
    with pytest.raises(Interrupted):
        told(trainer)
    assert "SIGTERM: stopped after iteration 1 of 4" in host_log.text
    assert read(host_log)["iterations"].startswith("1 of 4")


def test_one_that_is_stopped_in_its_first_step_has_nothing_to_tell(baseline_cfg, host_log):
    host_log.set_level(logging.INFO)
    with pytest.raises(KeyboardInterrupt):
        stop_at(start(baseline_cfg), 0).train()
    assert not [message for message in host_log.messages if message.startswith("Training ")]


def test_of_several_test_sets_the_first_tells_the_best(baseline_cfg, told, monkeypatch):
    again = type("TinyReIDAgain", (TinyReID,), {})
    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "TinyReIDAgain", again)
    baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.DATASETS.TESTS = 1, ("TinyReIDAgain", "TinyReID")
    assert "the mean of Rank-1 and mAP on TinyReIDAgain, after epoch 1" in told(start(baseline_cfg))["best"]


def test_the_metric_of_a_project_s_own_evaluator_is_not_called_what_it_is_not(baseline_cfg, told):
    for epochs, results in ((1, {"metric": 70.0, "Acc@1": 70.0}), (2, {"metric": 80.0, "Rank-1": 90.0, "mAP": 60.0})):
        baseline_cfg.SOLVER.MAX_EPOCH = epochs
        trainer = start(baseline_cfg, resume=epochs == 2)
        trainer.test = lambda cfg, model, results=results: results
        assert told(trainer)["best"] == f"{results['metric']:.1f}, metric on TinyReID, after epoch {epochs}"
