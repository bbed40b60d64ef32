"""A training in a process of its own, with loader workers, that gets a signal as schedulers and terminals send it."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

SLOW_STEPS = ("SOLVER.MAX_EPOCH", "500", "SOLVER.CHECKPOINT_PERIOD", "0", "DATALOADER.NUM_WORKERS", "2")


def children_of(group: int) -> list[str]:
    """Command lines of the processes of a group that are alive."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True).stdout.splitlines()
    fields = [line.split(maxsplit=2) for line in listed]
    return [args for pgid, state, args in fields if int(pgid) == group and not state.startswith("Z")]


def start(command, log) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, start_new_session=True)


def wait_for(process, path, text, seconds=120) -> None:
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
    "number, send, pairs",
    [
        (signal.SIGTERM, to_process, ()),  # kill, docker stop
        (signal.SIGTERM, to_group, ()),  # a scheduler that signals every process, the loader's workers too
        (signal.SIGINT, to_group, ()),  # Ctrl-C
    ],
)
def test_a_signal_ends_a_training_with_a_checkpoint_a_line_and_an_exit_code(
    tiny_duke, tmp_path, tool_command, number, send, pairs
):
    log = tmp_path / "log"
    with open(log, "w") as file:
        process = start(tool_command(*SLOW_STEPS, *pairs), file)
        wait_for(process, log, "epoch 2/")
        send(process, number)
        code = process.wait(timeout=60)
    told = log.read_text()
    assert code == 128 + number, told[-3000:]
    line = re.search(rf"{number.name}: stopped after iteration (\d+) of 1,000; --resume goes on from (\S+)", told)
    assert line[2] == str(tmp_path / "run" / "model_interrupted.pth") and "Traceback" not in told
    assert not children_of(process.pid)
    done = int(line[1])
    with open(log, "w") as file:
        resumed = start(tool_command(*SLOW_STEPS, flags=["--resume"]), file)
        wait_for(resumed, log, f"Starting training at iteration {done + 1} of 1,000")
        resumed.kill()
        resumed.wait()
