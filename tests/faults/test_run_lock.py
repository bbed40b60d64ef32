"""Two runs with one OUTPUT_DIR: the second is refused, and a run that was killed keeps nobody out."""

import errno
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
from igoas_plugin.engine.run_lock import LOCK, OWNER, FileLock, run_lock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
FORK = multiprocessing.get_context("fork")  # a new interpreter would import torch for some seconds


def hold(folder, took) -> None:
    with run_lock(str(folder)):
        took.set()
        time.sleep(600)


@pytest.fixture
def holder(tmp_path):
    """Returns a process that holds the lock of the folder."""
    took = FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path, took))
    process.start()
    assert took.wait(600)
    yield process
    process.kill()
    process.join()


def require_free(folder) -> None:
    with run_lock(str(folder)):
        assert f"process {os.getpid()} on {socket.gethostname()}" in (folder / OWNER).read_text()
    assert not folder.exists()  # nothing was written


def test_a_second_run_is_refused_until_the_first_is_killed(holder, tmp_path):
    words = f"process {holder.pid} on {socket.gethostname()}: wait until it has ended, or name another folder"
    with pytest.raises(InputError) as refused, run_lock(str(tmp_path)):
        pass
    assert re.fullmatch(
        rf"OUTPUT_DIR {re.escape(str(tmp_path))} is used by a run since \d{{4}}-\S+ [\d:]+ \S+: {re.escape(words)}",
        str(refused.value),
    )
    holder.kill()
    holder.join()
    assert (tmp_path / OWNER).exists()
    require_free(tmp_path)


def test_a_run_that_has_not_written_its_name_yet_is_refused_too(holder, tmp_path):
    (tmp_path / OWNER).unlink()
    with pytest.raises(InputError, match="is used by another run, which has just started: wait"):
        require_free(tmp_path)


def test_the_lock_ends_with_a_run_that_fails_and_files_stay(tmp_path):
    with pytest.raises(ZeroDivisionError), run_lock(str(tmp_path / "set" / "run")):
        (tmp_path / "set" / "run" / "log.txt").touch()
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "set" / "run") == ["log.txt"]
    (tmp_path / "set" / "run" / "log.txt").unlink()
    require_free(tmp_path / "set" / "run")


def test_a_folder_that_cannot_be_locked_is_one_line(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(InputError, match=f"cannot be locked: {tmp_path / LOCK}: Is a directory; name another folder"):
        require_free(tmp_path)


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, host_log, error):
    def refuse(lock, **options):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    require_free(tmp_path)
    assert f"The file system of {tmp_path} has no locks: do not start a second run there" in host_log.text


def test_only_the_first_process_of_a_run_holds_the_lock(holder, tmp_path, monkeypatch):
    with run_lock(str(tmp_path), machine_rank=1):
        pass
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", "1")
    with run_lock(str(tmp_path)):
        pass
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="is used by"):
        require_free(tmp_path)


def started(folder) -> bool:
    """Returns whether a training has passed its set-up, which writes config.yaml twice."""
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
            assert not (folder / "previous").exists()
            elsewhere = run_tool("OUTPUT_DIR", str(tmp_path / "elsewhere"), flags=("--eval-only",))
            assert elsewhere.returncode == 0, elsewhere.stderr
        finally:
            first.kill()
    resumed = run_tool(flags=("--resume",))
    assert resumed.returncode == 0, resumed.stderr
    assert not (folder / OWNER).exists()
