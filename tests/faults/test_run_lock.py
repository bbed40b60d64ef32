"""Two runs with one OUTPUT_DIR: the second is refused; what a dead run left keeps nobody out."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import time

import pytest
from process_table import wait_for

from igoas_plugin.core.errors import InputError
from igoas_plugin.engine import run_lock
from igoas_plugin.engine.run_lock import LOCK, Owner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="boots and starts of processes are read from /proc")
FORK = multiprocessing.get_context("fork")  # at once, where a new interpreter would import torch for some seconds


def hold(folder, took) -> None:
    with run_lock.run_lock(str(folder)):
        took.set()
        time.sleep(600)


@pytest.fixture
def holder(tmp_path):
    """A process that has the folder of a run."""
    took = FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path, took))
    process.start()
    assert took.wait(600)
    yield process
    process.kill()
    process.join()


def written(folder) -> dict:
    return json.loads((folder / LOCK).read_text())


def leave_lock(folder, **differences) -> Owner:
    """A lock that this process wrote, but for some differences, and does not hold."""
    owner = dataclasses.replace(Owner.this_process(), **differences)
    (folder / LOCK).write_text(json.dumps(dataclasses.asdict(owner)))
    return owner


def without_locks(monkeypatch) -> None:
    """As on a file system that has no locks."""

    def refuse(*given):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(run_lock.fcntl, "lockf", refuse)


@contextlib.contextmanager
def taken(folder):
    with run_lock.run_lock(str(folder)):
        assert written(folder)["pid"] == os.getpid()
        yield
    assert not (folder / LOCK).exists()


def test_a_folder_is_taken_by_one_process_and_free_when_that_was_killed(holder, tmp_path):
    since = written(tmp_path)["since"]
    words = f"OUTPUT_DIR {tmp_path} is used by a run since {since}: process {holder.pid} on {socket.gethostname()}: "
    with pytest.raises(InputError, match=f"^{re.escape(words)}wait until it has ended, or name another folder$"):
        with run_lock.run_lock(str(tmp_path)):
            pass
    assert written(tmp_path)["pid"] == holder.pid
    holder.kill()
    holder.join()
    assert written(tmp_path)["pid"] == holder.pid
    with taken(tmp_path):
        pass


def test_without_locks_of_the_file_system_the_owner_in_the_file_decides(holder, tmp_path, monkeypatch):
    without_locks(monkeypatch)
    with pytest.raises(InputError, match=f"is used by a run since .*: process {holder.pid} on"), taken(tmp_path):
        pass
    holder.kill()
    holder.join()
    with taken(tmp_path):
        pass


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
@pytest.mark.parametrize(
    "gone",
    [{"pid": 2**22 + 1}, {"started": "1"}, {"system": "another boot"}],
    ids=["no such process", "the number was given anew", "the machine was started anew"],
)
def test_the_lock_of_a_process_that_has_gone_keeps_nobody_out(tmp_path, monkeypatch, gone, locks):
    if not locks:
        without_locks(monkeypatch)
    leave_lock(tmp_path, **gone)
    with taken(tmp_path):
        pass


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
@pytest.mark.parametrize("where", ["another machine", "another container"])
def test_of_a_lock_from_elsewhere_it_is_said_that_it_cannot_be_told_and_how_to_remove_it(
    tmp_path, monkeypatch, where, locks
):
    if not locks:
        without_locks(monkeypatch)
    boot = run_lock.this_system().split()[0]
    owner = leave_lock(tmp_path, **({"host": "far"} if where == "another machine" else {"system": f"{boot} pid:[1]"}))
    with pytest.raises(InputError) as refused, taken(tmp_path):
        pass
    assert str(refused.value) == (
        f"OUTPUT_DIR {tmp_path} was taken by a run since {owner.since}: process {owner.pid} on {owner.host}, and from "
        f"{socket.gethostname()} it cannot be told whether that is still there: if not, remove {tmp_path / LOCK}"
    )
    (tmp_path / LOCK).unlink()
    with taken(tmp_path):
        pass


NO_OWNER = {"host": "a", "system": 1, "pid": "7\0", "started": "1", "since": "now"}


@pytest.mark.parametrize("content", ["", '{"host": "a', "[]", '{"pid": 1}', json.dumps(NO_OWNER), "[" * 100_000])
def test_a_lock_that_was_cut_off_or_holds_something_else_keeps_nobody_out(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    with taken(tmp_path):
        pass


def test_the_lock_goes_with_a_run_that_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), taken(tmp_path):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_folder_that_was_made_for_the_lock_goes_with_it_unless_something_is_in_it(tmp_path):
    (tmp_path / "logs").mkdir()
    with taken(tmp_path / "logs" / "set" / "run"):
        pass
    assert os.listdir(tmp_path / "logs") == []
    with taken(tmp_path / "logs" / "set" / "run"):
        (tmp_path / "logs" / "set" / "run" / "config.yaml").touch()
    assert os.listdir(tmp_path / "logs" / "set" / "run") == ["config.yaml"]


def test_a_lock_that_someone_removed_is_no_error_at_the_end(tmp_path):
    with taken(tmp_path):
        (tmp_path / LOCK).unlink()


def test_a_folder_that_cannot_be_locked_is_one_line(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(InputError, match=f"cannot be locked: {tmp_path / LOCK}: Is a directory"), taken(tmp_path):
        pass


def test_a_lock_that_is_a_link_is_one_line_and_nothing_is_written_through_it(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match="cannot be locked: .*remove that file"), run_lock.run_lock(str(tmp_path)):
        raise AssertionError("taken")
    assert (tmp_path / "precious").read_text() == "precious"


def test_only_the_first_process_of_a_run_takes_the_folder(tmp_path, monkeypatch):
    with taken(tmp_path), run_lock.run_lock(str(tmp_path), machine_rank=1):
        pass
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", "1")
    with run_lock.run_lock(str(tmp_path)):
        assert not (tmp_path / LOCK).exists()
    monkeypatch.setenv("RANK", "0")
    with taken(tmp_path):
        pass


def take_often(folder, go) -> None:
    done = 0
    go.wait()
    while done < 30:
        with contextlib.suppress(InputError):  # another one has it
            with run_lock.run_lock(str(folder)), open(folder / "notes", "a", buffering=1) as notes:
                notes.write("in\n")
                time.sleep(0.001)
                notes.write("out\n")
            done += 1


@pytest.mark.fault
def test_of_many_processes_at_once_one_at_a_time_has_the_folder(tmp_path):
    """The lock is removed between two of them, which opens gaps to fall into."""
    go = FORK.Event()
    processes = [FORK.Process(target=take_often, args=(tmp_path, go)) for _ in range(3)]
    for process in processes:
        process.start()
    go.set()
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "notes").read_text() == "in\nout\n" * 90


def started(folder) -> bool:
    """Whether a training is past its set-up, which writes config.yaml twice."""
    log = folder / "log.txt"
    return log.exists() and "Starting training" in log.read_text()


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--eval-only",)], ids=["training", "evaluation"])
def test_a_second_run_in_the_folder_of_a_training_is_refused_and_changes_nothing(
    tool_command, run_tool, tiny_duke, tmp_path, flags
):
    folder = tmp_path / "run"
    command = [sys.executable, "-W", "ignore", *tool_command("SOLVER.MAX_EPOCH", "100000", "TEST.EVAL_PERIOD", "0")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        try:
            wait_for(lambda: first.poll() is not None or started(folder))
            before = {path.name: path.read_bytes() for path in folder.glob("c*")}
            second = run_tool(flags=flags)
            assert (second.returncode, second.stdout) == (2, "")
            last = second.stderr.splitlines()[-1]
            assert f"OUTPUT_DIR {folder} is used by a run since" in last and f"process {first.pid} on" in last
            assert {path.name: path.read_bytes() for path in folder.glob("c*")} == before and first.poll() is None
            elsewhere = run_tool("OUTPUT_DIR", str(tmp_path / "elsewhere"), flags=("--eval-only",))
            assert elsewhere.returncode == 0, elsewhere.stderr
        finally:
            first.kill()
    resumed = run_tool(flags=("--resume",))
    assert resumed.returncode == 0, resumed.stderr
    assert not (folder / LOCK).exists()
