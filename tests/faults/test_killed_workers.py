"""Workers of the data loader that are killed, as by a kernel that is out of memory."""

import os
import re
import signal
import subprocess
from multiprocessing.connection import Client

import pytest
from faulty_runs import faulty_run, wait_for

from igoas_plugin.core.errors import LostWorker
from igoas_plugin.engine.loader import lost_worker, lost_workers_in_one_line

SECONDS = 600  # a run must have ended by then; on an idle machine it takes two, and a stuck one never ends
LINE = (
    r"igoas_plugin \S+: a worker of the data loader \(process {pid}\) (was ended from outside \(Killed\)|ended "
    r"unexpectedly): most likely the machine, or its container, is out of memory; lower DATALOADER.NUM_WORKERS"
)


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_a_run_ends_in_one_line_within_seconds_where_a_worker_is_killed(kind, tool_command, tiny_duke, tmp_path):
    many = ["SOLVER.MAX_EPOCH", "10000", "TEST.EVAL_PERIOD", "10000"]
    if kind == "evaluation":  # of so many images that it lasts
        for part in ("query", "bounding_box_test"):
            for path in list((tiny_duke / "Occluded_Duke" / part).iterdir()):
                for copy in range(400):
                    os.link(path, path.with_name(f"{path.stem}{copy:03}.jpg"))
    flags = ["--eval-only"] if kind == "evaluation" else []
    with faulty_run(tool_command("DATALOADER.NUM_WORKERS", "2", *many, flags=flags), tmp_path) as run:
        worker = wait_for(lambda: len(run.workers()) == 2 and run.workers())[0]
        wait_for(lambda: kind == "evaluation" or run.says("  iter "))
        os.kill(worker, signal.SIGKILL)
        run.ends(SECONDS)
        assert run.process.returncode == 1
        assert re.search(LINE.format(pid=worker), run.last_lines()[-1]), run.last_lines()
        assert "Traceback" not in run.stderr.read_text()
        wait_for(lambda: not run.left(), seconds=120)


def shared_memory_can_be_small() -> bool:
    words = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /dev/shm"]
    try:
        return subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.fault
def test_full_shared_memory_is_told_and_what_to_do(tool_command, tiny_duke, tmp_path):
    if not shared_memory_can_be_small():
        pytest.skip("a small /dev/shm of its own takes Linux and the right to mount")
    small = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh")
    pairs = ["DATALOADER.NUM_WORKERS", "1", "INPUT.SIZE_TRAIN", "[128,64]"]  # 8 images of 24 KB
    with faulty_run(tool_command(*pairs), tmp_path, prefix=small) as run:
        run.ends(600)
        assert run.process.returncode == 1
        assert re.search(
            r"found the shared memory full \(/dev/shm: 0 MiB, 0 free\): make it larger \(docker run --shm-size 8g, or "
            "ipc: host\\), or lower DATALOADER.NUM_WORKERS",
            run.last_lines()[-1],
        ), run.last_lines()
        wait_for(lambda: not run.left(), seconds=120)


@pytest.mark.parametrize(
    "torch_says, told",
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Killed. ",
            r"\(process 7\) was ended from outside \(Killed\): ",
        ),
        (
            "DataLoader worker (pid 7) exited unexpectedly with exit code 1. Details",
            r"\(process 7\) ended unexpectedly: ",
        ),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", r"\(process 7, 8\) ended unexpectedly: "),
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that",
            "found the .*--shm-size",
        ),
        (
            "Caught RuntimeError in DataLoader worker process 0.\nRuntimeError: unable to write to file "
            "</torch_31_7_0>: No space left on device (28)",
            "found the shared memory full .*--shm-size",
        ),
        ("CUDA error: out of memory", None),
        ("mat1 and mat2 shapes cannot be multiplied", None),
    ],
)
def test_what_torch_says_is_told_as_what_to_do(torch_says, told):
    error = lost_worker(RuntimeError(torch_says))
    assert error is None if told is None else re.search(told, str(error)) and "NUM_WORKERS" in str(error)


def test_a_worker_that_ends_while_it_hands_over_a_batch_is_lost():
    with pytest.raises(LostWorker, match="ended while it handed over a batch"), lost_workers_in_one_line():
        Client(os.path.join(os.sep, "no", "socket"))


def test_a_broken_connection_of_a_data_set_stays_what_it_is():
    with pytest.raises(ConnectionResetError, match="of a user"), lost_workers_in_one_line():
        raise ConnectionResetError("of a user")
