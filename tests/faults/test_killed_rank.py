"""Runs of several processes, one of which is killed, hangs or raises: all end with one line, and none is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_data
from process_table import left, marked, wait_for

SCRIPT = Path(__file__).with_name("broken_ranks.py")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
WORKERS_SECONDS = 600.0  # a loader's worker looks for its parent every 5 s, and a busy machine takes long to end it
NO_ANSWER = "cannot go on because another one has not answered"
COLLECTIVE = "30"  # seconds after which a collective ends a run: more than two processes need to start at once

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc, and end with their parent"),
]


@pytest.fixture
def ranks(tmp_path):
    """Returns a function that starts a run of two processes, and returns it and their pids when both are at work."""
    tiny_data.make_tiny_data(tmp_path / "datasets")
    started = []

    def start(what="train", launcher=(), **environment):
        command = [sys.executable, "-W", "ignore", *launcher, str(SCRIPT), str(tmp_path), what, "2"]
        environment = {**marked(tmp_path), "FASTREID_DATASETS": str(tmp_path / "datasets"), **environment}
        environment["OMP_NUM_THREADS"] = "1"
        with open(tmp_path / "stdout", "w") as stdout, open(tmp_path / "stderr", "w") as stderr:
            started.append(subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr))
        if what != "raise":
            wait_for(
                lambda: started[0].poll() is not None or all((tmp_path / f"rank{rank}").exists() for rank in (0, 1))
            )
            return started[0], [int((tmp_path / f"rank{rank}").read_text()) for rank in (0, 1)]
        return started[0], []

    yield start
    for process in started:
        process.kill()
        process.wait()
    for each in left(tmp_path):
        os.kill(int(each.split()[0]), signal.SIGKILL)


def said(tmp_path) -> list[str]:
    return (tmp_path / "stderr").read_text().splitlines()


def assert_ended_in_one_line(run, tmp_path, what, code=1, seconds=600):
    assert run.wait(timeout=seconds) == code
    lines = said(tmp_path)
    assert [line for line in lines if line.startswith("said in one line: ")] == lines[-1:]
    assert what in lines[-1]
    tracebacks = [" ".join(lines[at + 1 : at + 3]) for at, line in enumerate(lines) if "Traceback" in line]
    # a loader's worker may just hand a batch to the killed process, or be started by it: Python then prints these
    own = ("multiprocessing/resource_sharer", "multiprocessing/spawn.py")
    assert all(any(name in where for name in own) for where in tracebacks)
    assert left(tmp_path, WORKERS_SECONDS) == []


@pytest.mark.parametrize(
    ("what", "rank"),
    [
        ("train", 1),
        pytest.param("train", 0, marks=pytest.mark.slow),
        pytest.param("evaluate", 0, marks=pytest.mark.slow),
        pytest.param("evaluate", 1, marks=pytest.mark.slow),
    ],
)
def test_a_killed_process_ends_the_run_in_one_line_that_names_it(ranks, tmp_path, what, rank):
    run, pids = ranks(what)
    os.kill(pids[rank], signal.SIGKILL)
    name = f"process {rank} of the 2 on this machine (pid {pids[rank]}) was ended by signal SIGKILL"
    assert_ended_in_one_line(run, tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_under_torchrun_a_killed_process_ends_the_run(ranks, tmp_path, rank):
    run, pids = ranks(launcher=TORCHRUN)
    os.kill(pids[rank], signal.SIGKILL)
    assert run.wait(timeout=600) == 1
    assert any(f"Signal 9 (SIGKILL) received by PID {pids[rank]}" in line for line in said(tmp_path))  # torchrun's own
    assert left(tmp_path, WORKERS_SECONDS) == []


@pytest.mark.slow
def test_the_processes_of_a_killed_torchrun_end_with_it(ranks, tmp_path):
    run, _ = ranks(launcher=TORCHRUN)
    run.kill()
    assert left(tmp_path, WORKERS_SECONDS) == []


@pytest.mark.slow
def test_an_exception_of_one_process_is_the_one_that_is_shown(ranks, tmp_path):
    run, _ = ranks("raise")
    assert run.wait(timeout=600) == 1
    assert said(tmp_path)[-1] == "ZeroDivisionError: a bug" or said(tmp_path)[-2] == "ZeroDivisionError: a bug"
    assert "-- Process 1 terminated with the following error:" in said(tmp_path)
    assert left(tmp_path, WORKERS_SECONDS) == []


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), TORCHRUN], ids=["launch", "torchrun"])
def test_a_process_that_hangs_ends_the_run_after_the_time_of_a_collective(ranks, tmp_path, launcher):
    run, pids = ranks(launcher=launcher, SECONDS_TO_WAIT=COLLECTIVE)
    os.kill(pids[1], signal.SIGSTOP)
    if not launcher:
        return assert_ended_in_one_line(run, tmp_path, f"process 0 of 2 {NO_ANSWER}")
    assert run.wait(timeout=600) == 1
    assert any(f"process 0 of 2 {NO_ANSWER}" in line for line in said(tmp_path))
    assert left(tmp_path, WORKERS_SECONDS) == []


def test_the_processes_of_a_killed_run_end_with_it_even_where_one_hangs(ranks, tmp_path):
    run, pids = ranks()
    os.kill(pids[0], signal.SIGSTOP)
    started = time.monotonic()
    run.kill()
    assert left(tmp_path, WORKERS_SECONDS) == [], f"after {time.monotonic() - started:.0f} s"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_run_ends_all_its_processes(ranks, tmp_path, number, code):
    run, _ = ranks()
    run.send_signal(number)
    assert run.wait(timeout=600) == code
    assert left(tmp_path, WORKERS_SECONDS) == []


@pytest.mark.slow
def test_a_ranking_may_take_longer_than_a_collective(ranks, tmp_path):
    run, _ = ranks("rank", SECONDS_TO_WAIT=COLLECTIVE)
    assert run.wait(timeout=600) == 0
    assert left(tmp_path, WORKERS_SECONDS) == []


@pytest.mark.slow
def test_without_a_barrier_of_its_own_the_ranking_ends_the_run(ranks, tmp_path):
    run, _ = ranks("rank unwaited", SECONDS_TO_WAIT=COLLECTIVE)
    assert_ended_in_one_line(run, tmp_path, f"process 1 of 2 {NO_ANSWER}", seconds=600)
