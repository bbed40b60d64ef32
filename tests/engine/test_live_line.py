import logging
import os
import pty
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
from fastreid.engine.hooks import PeriodicWriter
from fastreid.utils.events import CommonMetricPrinter, EventStorage
from fastreid.utils.logger import setup_logger
from runs import start
from terminal import Console, console
from test_progress import Clock, Trainer

from igoas_plugin.core.console_log import FILES_ONLY
from igoas_plugin.engine import console as engine_console
from igoas_plugin.engine.console import live_line

logger = logging.getLogger("fastreid.test")

PROGRESS = re.compile(r"epoch (\d+)/\d+  iter (\d+)/\d+")  # epoch, from 1, and iterations that are done


@contextmanager
def run_on_a_terminal(folder):
    """Context with a terminal; no fixture, because pytest gives each fixture and test another sys.stdout."""
    with console() as terminal:
        setup_logger(str(folder))
        yield terminal


def lines_of(log) -> list[str]:
    return [line.split(": ", 1)[1] for line in log.read_text().splitlines()]


def test_log_lines_stand_alone_above_the_live_line(tmp_path):
    with run_on_a_terminal(tmp_path) as terminal:
        live = live_line()
        live.show("epoch 1, a long line")
        live.show("epoch 2")
        assert terminal.screen() == ["epoch 2"]
        logger.info("logged")
        live.show("epoch 3")
        logger.info("in files alone", extra=FILES_ONLY)
        *above, last = terminal.screen()
        assert above == ["logged"] and last == "epoch 3"
        live.close()
        logger.info("end")
        assert terminal.screen() == ["logged", "end", ""]
    assert lines_of(tmp_path / "log.txt") == ["logged", "in files alone", "end"]


def test_a_live_line_fits_the_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((20, 5)))
    with run_on_a_terminal(tmp_path) as terminal:
        live = live_line()
        live.show("x" * 50)
        assert terminal.screen() == ["x" * 19]
        live.close()


def test_there_is_none_in_a_file_or_a_pipe_or_without_the_host_s_logger(tmp_path):
    with console():
        assert live_line() is None
    with console(isatty=False):
        setup_logger(str(tmp_path))
        assert live_line() is None


def test_the_line_follows_the_steps_about_every_second_and_stays_where_an_epoch_ends(tmp_path, monkeypatch):
    clock, shown = Clock(), []
    monkeypatch.setattr(engine_console, "time", clock)
    writer, writer.trainer = PeriodicWriter([CommonMetricPrinter(60)], 200), Trainer()
    writer.trainer.iters_per_epoch = 30
    with run_on_a_terminal(tmp_path) as terminal, EventStorage() as storage:
        storage.iters_per_epoch = 30
        for storage.epoch in range(2):
            for step in range(30):
                storage.iter = writer.trainer.iter = 30 * storage.epoch + step
                clock.now = 0.3 * storage.iter
                writer.after_step()
                shown.append(terminal.screen()[-1].split("  left")[0])
            writer.after_epoch()
        writer.after_train()
    # steps of 0.3 s: the line is that of every fourth step, the first that is a second later
    assert shown[:9] == [f"epoch 1/2  iter {done}/60" for done in (1, 1, 1, 1, 5, 5, 5, 5, 9)]
    *stayed, last = terminal.screen()
    assert [line.split("  left")[0] for line in stayed] == ["epoch 1/2  iter 30/60", "epoch 2/2  iter 60/60"]
    assert last == ""
    logged = [int(PROGRESS.search(line)[2]) for line in lines_of(tmp_path / "log.txt")]
    assert logged == [15, 29, 30, 43, 57, 60]  # the first step that is 4 s later, and where an epoch ends


def test_a_whole_run_on_a_terminal_leaves_a_log_file_to_read(baseline_cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_console, "FASTEST", 0.0)
    with console() as terminal:
        start(baseline_cfg).train()
    screen, log = terminal.screen(), (tmp_path / "run" / "log.txt").read_text()
    assert [PROGRESS.search(line).groups() for line in screen if "  loss" in line] == [("1", "2"), ("2", "4")]
    assert log.count("fastreid.utils.events INFO: epoch") == 4 and "\r" not in log and "\x1b" not in log
    assert terminal.getvalue().count("\repoch") >= 1


def test_a_run_that_fails_leaves_the_terminal_tidy(baseline_cfg):
    with console() as terminal:
        trainer = start(baseline_cfg)
        spoilt = trainer._trainer.model.heads.weight
        trainer._trainer.optimizer.register_step_post_hook(lambda *_: spoilt.data.fill_(float("nan")))
        with pytest.raises(FloatingPointError):
            trainer.train()
        print("next")
    assert terminal.screen()[-2:] == ["next", ""]


@pytest.mark.slow
def test_the_tool_on_a_pseudo_terminal(tool_command, tiny_duke, tmp_path):
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, *tool_command("SOLVER.MAX_EPOCH", "2")], stdout=theirs) as process:
        os.close(theirs)
        printed = Console(True)
        try:
            while text := os.read(ours, 4096):
                printed.write(text.decode().replace("\r\n", "\n"))
        except OSError:  # Linux: the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert "\repoch 1/2  iter 1/4" in printed.getvalue()
    kept = [line for line in printed.screen() if PROGRESS.search(line)]
    assert [PROGRESS.search(line).groups() for line in kept] == [("1", "2"), ("2", "4")]
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "\r" not in log and "\x1b" not in log and "Training is done" in log
