"""Training in its own process, with loader workers, that receives signals as schedulers and terminals send them."""

import contextlib
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_data import make_tiny_occluded_reid

ROOT = Path(__file__).parents[2]
SLOW_STEPS = ("SOLVER.MAX_EPOCH", "100000", "SOLVER.CHECKPOINT_PERIOD", "0", "DATALOADER.NUM_WORKERS", "2")


def children_of(group: int) -> list[str]:
    """Returns the command lines of the living processes of a group."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True).stdout.splitlines()
    fields = [line.split(maxsplit=2) for line in listed]
    return [args for pgid, state, args in fields if int(pgid) == group and not state.startswith("Z")]


def hear_ctrl_c() -> None:
    """Handles Ctrl-C in the default way, because a child process inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start():
    """Returns a function that starts a command in its own process group; the groups are killed at the end."""
    started = []

    def start(command, log) -> subprocess.Popen:
        options = {"stdout": log, "stderr": log, "start_new_session": True, "preexec_fn": hear_ctrl_c}
        started.append(subprocess.Popen([sys.executable, *command], **options))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(process, path, text, seconds=600) -> None:
    end = time.monotonic() + seconds
    while text not in path.read_text():
        assert process.poll() is None and time.monotonic() < end, path.read_text()[-3000:]
        time.sleep(0.05)


def to_group(process, number):
    os.killpg(process.pid, number)


def to_process(process, number):
    os.kill(process.pid, number)


@pytest.mark.fault
@pytest.mark.parametrize(
    "number, send, flags",
    [
        (signal.SIGTERM, to_process, ()),  # kill, docker stop
        (signal.SIGTERM, to_group, ()),  # a scheduler that signals every process, the loader's workers too
        (signal.SIGINT, to_group, ()),  # Ctrl-C
        (signal.SIGTERM, to_process, ("--num-gpus", "2")),
        pytest.param(signal.SIGINT, to_group, ("--num-gpus", "2"), marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_training_with_a_checkpoint_a_line_and_an_exit_code(
    start, tiny_duke, tmp_path, tool_command, number, send, flags
):
    log = tmp_path / "log"
    with open(log, "w") as file:
        process = start(tool_command(*SLOW_STEPS, flags=flags), file)
        wait_for(process, log, "epoch 2/")
        send(process, number)
        code = process.wait(timeout=600)
    told = log.read_text()
    assert code == 128 + number, told[-3000:]
    line = re.search(r"SIG\w+: stopped after iteration (\d+) of 200,000; --resume goes on from (\S+)", told)
    assert line[2] == str(tmp_path / "run" / "model_interrupted.pth") and "Traceback" not in told
    end = time.monotonic() + 120  # multiprocessing's own helper ends a little later
    while (left := children_of(process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == []
    done = int(line[1])
    with open(log, "w") as file:
        resumed = start(tool_command(*SLOW_STEPS, flags=["--resume", *flags]), file)
        wait_for(resumed, log, f" {done:,} of 200,000 iterations are done")


@pytest.mark.fault
@pytest.mark.parametrize(
    "number, send",
    [
        (signal.SIGINT, to_group),  # Ctrl-C
        (signal.SIGTERM, to_process),
        pytest.param(signal.SIGTERM, to_group, marks=pytest.mark.slow),
    ],
)
def test_random_splits_waits_for_the_checkpoint_of_its_training_and_ends_with_its_exit_code(
    start, tmp_path, monkeypatch, tool_command, number, send
):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "datasets"))
    make_tiny_occluded_reid(tmp_path / "datasets")
    tool, *words = tool_command(*SLOW_STEPS, tool="tools/random_splits.py")
    log = tmp_path / "log"
    with open(log, "w") as file:
        process = start([tool, "OccludedREIDHalfSplit", *words], file)
        wait_for(process, log, "iter ")
        send(process, number)
        code = process.wait(timeout=600)
    told = log.read_text()
    assert code == 128 + number and f"{number.name}: stopped after iteration" in told, told[-3000:]
    assert "Traceback" not in told and children_of(process.pid) == []
    assert (tmp_path / "run" / "split0" / "model_interrupted.pth").is_file()
    assert not (tmp_path / "run" / "split0" / ".lock_owner").exists()


def ctrl_c(*words, **options):
    raise KeyboardInterrupt


TRAINING = ("--config-file", str(ROOT / "configs/Toy/igoas_R18.yml"), "OUTPUT_DIR", "run", "SOLVER.MAX_EPOCH", "1")


@pytest.mark.parametrize(
    "tool, words, at, line",
    [
        ("train_net", TRAINING, "igoas_plugin.cli.train_net.check_run", "interrupted"),
        ("train_net", TRAINING, "fastreid.engine.DefaultTrainer.build_model", "interrupted"),
        ("train_net", ("--eval-only", *TRAINING), "fastreid.engine.DefaultTrainer.test", "interrupted"),
        ("summarize", ("run",), "igoas_plugin.cli.summarize.summarize", "interrupted"),
        (
            "prepare_data",
            ("occluded-duke", "--source", "."),
            "igoas_plugin.cli.prepare_data.prepare",
            "interrupted: run the same command again",
        ),
    ],
)
def test_ctrl_c_where_nothing_is_trained_is_one_line_and_exit_code_130(
    tmp_path, monkeypatch, capsys, tool, words, at, line
):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").touch()  # summarize asks for it before it imports anything
    monkeypatch.setattr(at, ctrl_c)
    monkeypatch.setattr(sys, "argv", [f"{tool}.py", *words])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "tools" / f"{tool}.py"), run_name="__main__")
    told = capsys.readouterr().err.splitlines()
    assert stop.value.code == 130 and told[-1] == line and not any("Traceback" in each for each in told)
