import json
import logging
import re
from types import SimpleNamespace

import pytest
from fastreid.engine.hooks import EvalHook, PeriodicWriter
from fastreid.engine.train_loop import TrainerBase
from fastreid.utils.events import CommonMetricPrinter, EventStorage, JSONWriter
from fastreid.utils.logger import setup_logger
from runs import logged, start

from igoas_plugin.engine import console


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


class Trainer:
    iters_per_epoch, max_iter, iter = 1000, 1000, 0


@pytest.mark.parametrize("seconds_a_step, longest_silence", [(1, 5), (3, 6)])
def test_the_log_is_never_silent_for_long(monkeypatch, raw_host, seconds_a_step, longest_silence):
    assert raw_host["console_lines_in_100_steps"] == 0
    clock, lines = Clock(), []
    monkeypatch.setattr(console, "time", clock)
    printer = CommonMetricPrinter(1000)
    monkeypatch.setattr(printer, "write", lambda: lines.append(clock.now))
    writer = PeriodicWriter([printer], 200)
    writer.trainer = Trainer()
    with EventStorage():
        for writer.trainer.iter in range(100):
            clock.now += seconds_a_step
            writer.after_step()
    gaps = [later - earlier for earlier, later in zip([seconds_a_step, *lines], lines, strict=False)]
    assert max(gaps) <= longest_silence and len(lines) < 100


@pytest.mark.parametrize(
    "seconds_a_step, length, shown",
    [
        (0.1, 32, [32, 64, 96]),
        (10, 32, [2, 32, 64, 96]),
        (10_000, 32, [2, 32, 64, 96]),  # a slow machine has no more lines
        (3, 300, [3, 103, 203, 300, 400, 500, 600, 700, 800, 900]),  # after five minutes each
    ],
)
def test_a_pipe_gets_a_line_an_epoch_and_more_in_long_epochs(
    tmp_path, monkeypatch, capsys, seconds_a_step, length, shown
):
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    setup_logger(str(tmp_path))
    writer, writer.trainer = PeriodicWriter([CommonMetricPrinter(3 * length)], 200), Trainer()
    writer.trainer.iters_per_epoch = length
    with EventStorage() as storage:
        storage.iters_per_epoch = length
        for storage.epoch in range(3):
            for step in range(length):
                storage.iter = writer.trainer.iter = storage.epoch * length + step
                clock.now += seconds_a_step
                writer.after_step()
            writer.after_epoch()
    lines = capsys.readouterr().out.splitlines()
    assert [int(re.match(r"epoch \d/3  iter (\d+)/", line)[1]) for line in lines] == shown


def test_metrics_are_logged_where_an_epoch_ends_at_a_multiple_of_the_writers_period(tmp_path, raw_host):
    assert raw_host["metrics_where_an_epoch_ends_at_a_multiple_of_the_writers_period"] is False
    hooks = [EvalHook(1, lambda: {"metric": 1.0}), PeriodicWriter([JSONWriter(str(tmp_path / "metrics.json"))], 2)]
    trainer = TrainerBase()
    trainer.iters_per_epoch, trainer.max_epoch, trainer.max_iter = 2, 1, 2
    trainer.run_step = lambda: trainer.storage.put_scalar("total_loss", 1.0)
    trainer.register_hooks(hooks)
    trainer.train(0, 1, 2)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [(line["iteration"], line["metric"]) for line in lines] == [(1, 1.0)]


def test_the_log_tells_the_occlusion(igoas_cfg, host_log, raw_host, monkeypatch):
    monkeypatch.setattr(console, "FASTEST", 3600.0)  # else a slow machine has one more line each four seconds
    assert raw_host["console_tells_the_occlusion"] is False
    host_log.set_level(logging.INFO)
    start(igoas_cfg).train()
    told = [record.getMessage() for record in host_log.records if record.getMessage().startswith("epoch ")]
    assert [re.search(r"covered (\d+)%", line)[1] for line in told] == [
        f"{100 * line['occlusion/share']:.0f}" for line in logged(igoas_cfg)
    ]


def test_the_time_left_is_that_of_steps_and_evaluations_so_far_but_not_of_the_first_step(monkeypatch, host_log):
    host_log.set_level(logging.INFO)
    clock, left = Clock(), []
    monkeypatch.setattr(console, "time", clock)
    writer, writer.trainer = PeriodicWriter([CommonMetricPrinter(40)], 200), Trainer()
    writer.trainer.iters_per_epoch = 10
    with EventStorage(10) as storage:  # resumed after the first of four epochs
        for storage.iter in range(10, 30):
            writer.trainer.iter = storage.iter
            clock.now += 50 if storage.iter == 10 else 2
            writer.after_step()
            if (storage.iter + 1) % 10 == 0:
                clock.now += 20  # an evaluation
                writer.after_epoch()
                left.append(storage.latest()["eta_seconds"][0])
    # 9 steps after the first one and an evaluation: 38 s, 20 steps to go; 19 steps and two: 78 s, 10 to go
    assert left == [pytest.approx(38 / 9 * 20), pytest.approx(78 / 19 * 10)]
    assert [line.split("  ")[1] for line in host_log.messages if "iter 20/" in line] == ["left 0:01:24"]


def test_a_run_tells_the_length_of_its_epochs(igoas_cfg, raw_host):
    assert raw_host["storage_knows_the_length_of_an_epoch"] is False
    trainer = start(igoas_cfg)
    trainer.train()
    assert trainer.storage.iters_per_epoch == 2 and trainer.storage.images_per_step == 8


def test_a_trainer_that_knows_iterations_only_writes_too(tmp_path):
    writer = PeriodicWriter([JSONWriter(str(tmp_path / "metrics.json"))], 2)
    writer.trainer = SimpleNamespace(max_iter=4, iter=0)
    with EventStorage() as storage:
        for storage.iter in range(4):
            writer.trainer.iter = storage.iter
            storage.put_scalar("total_loss", 1.0)
            writer.after_step()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 3]
