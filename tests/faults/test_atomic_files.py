"""Files are written as a whole or not at all, also if a writer is killed, the disk is full or the power fails."""

import ast
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_disk import mounted

from igoas_plugin.core.errors import OutputError
from igoas_plugin.core.files import HOST, LEFT_OVER, cannot_write, rename_finished, temporary_folder, write_atomically

ROOT = Path(__file__).parents[2]

# Writes 8 MB, one MB at a time, then sleeps. It leaves out the __init__.py of the package, which takes seconds to load
# fast-reid.
SLOW_WRITER = """
import sys, time, types

sys.modules["igoas_plugin"] = package = types.ModuleType("igoas_plugin")
package.__path__ = [sys.argv[2]]
from igoas_plugin.core.files import write_atomically

def write(file):
    for _ in range(8):
        file.write(bytes(2**20))
    time.sleep(600)

write_atomically(sys.argv[1], write)
"""


def writes(content: bytes):
    return lambda file: file.write(content)


@pytest.fixture
def killed_writer(tmp_path):
    """Kills a process while it writes tmp_path / "file"; gives its number."""
    command = [sys.executable, "-c", SLOW_WRITER, tmp_path / "file", ROOT / "igoas_plugin"]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 2**21 for path in tmp_path.glob("*.writing")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    return process.pid


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_file_and_the_next_writer_tidies_up(tmp_path, killed_writer):
    left = tmp_path / f"file.{HOST}.{killed_writer}.writing"
    assert os.listdir(tmp_path) == [left.name]
    left.rename(tmp_path / f"other.{HOST}.{killed_writer}.writing")  # of any file in the folder
    write_atomically(str(tmp_path / "file"), writes(b"new"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"new"}


def test_a_kill_leaves_what_was_there_before(tmp_path, request):
    (tmp_path / "file").write_bytes(b"old")
    request.getfixturevalue("killed_writer")
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("host, pid, hours, stays", [
    (HOST, os.getppid(), 99, True),  # still running
    (HOST, 2**22 + 1, 0, False),  # above the largest number that Linux gives a process
    ("elsewhere", 2**22 + 1, 23, True),  # nobody can tell whether it runs there
    ("elsewhere", os.getppid(), 25, False),
])  # fmt: skip
def test_only_files_that_nobody_writes_any_more_are_removed(tmp_path, host, pid, hours, stays):
    left = tmp_path / f"a.b.{host}.{pid}.writing"
    left.write_bytes(b"half")
    then = time.time() - 3600 * hours
    os.utime(left, (then, then))
    assert 23 * 3600 < LEFT_OVER < 25 * 3600
    write_atomically(str(tmp_path / "file"), writes(b"new"))
    assert left.exists() is stays


def test_a_files_content_is_on_the_disk_before_its_name_and_the_name_before_the_next_step(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, os.replace

    def note_sync(handle):
        steps.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def note_replace(old, new):
        steps.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_atomically(str(tmp_path / "file"), writes(b"new"))
    assert steps == [f"file.{HOST}.{os.getpid()}.writing", "rename", tmp_path.name]


def test_a_folder_of_files_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    steps, rename = [], os.rename
    monkeypatch.setattr(os, "sync", lambda: steps.append("sync"))
    monkeypatch.setattr(os, "rename", lambda *names: steps.append("rename") or rename(*names))
    (tmp_path / "made").mkdir()
    rename_finished(str(tmp_path / "made"), str(tmp_path / "done"))
    assert steps == ["sync", "rename"] and os.listdir(tmp_path) == ["done"]


def test_a_temporary_folder_is_removed_and_what_a_killed_process_left_before_it(tmp_path):
    left = tmp_path / f"set.{HOST}.{2**22 + 1}.writing"
    left.mkdir()
    (left / "file").touch()
    with temporary_folder(str(tmp_path / "set")) as folder:
        assert os.listdir(tmp_path) == [os.path.basename(folder)] and os.listdir(folder) == []
        (Path(folder) / "file").touch()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_another_process_has_made_meanwhile_stays(tmp_path):
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "file").touch()
    with temporary_folder(str(tmp_path / "done")) as folder:
        assert not rename_finished(folder, str(tmp_path / "done"))
    assert os.listdir(tmp_path) == ["done"] and os.listdir(tmp_path / "done") == ["file"]


def test_a_file_system_that_cannot_sync_a_folder_is_used_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    write_atomically(str(tmp_path / "file"), writes(b"new"))
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO, errno.EFBIG])
def test_whatever_the_system_says_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch, number):
    (tmp_path / "file").write_bytes(b"old")

    def fails(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OutputError, match=f"^cannot write {tmp_path}/file: {os.strerror(number)}.*name another folder"):
        write_atomically(str(tmp_path / "file"), writes(b"new"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_of_a_quota_and_of_a_full_disk_the_free_space_is_told(tmp_path):
    for number in (errno.EDQUOT, errno.ENOSPC):
        told = str(cannot_write(str(tmp_path / "not" / "there" / "file"), OSError(number, os.strerror(number))))
        assert f" MB are free in {tmp_path}: make room, or name another folder" in told


@pytest.mark.parametrize("write", [
    lambda file: torch.save({"weights": torch.rand(2**20)}, file),  # torch turns the error into one of its own
    lambda file: file.write(os.urandom(2**22)),
    lambda file: [file.write(os.urandom(100)) for _ in range(2**15)],  # found when the buffer is written
])  # fmt: skip
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, write):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        (disk / "file").write_bytes(b"old")
        with pytest.raises(OutputError) as caught:
            write_atomically(str(disk / "file"), write)
        assert str(caught.value).startswith(f"cannot write {disk}/file: No space left on device, 1.0 MB are free in")
        assert "\n" not in str(caught.value)
        assert {path.name: path.read_bytes() for path in disk.iterdir()} == {"file": b"old"}


def test_a_disk_without_room_for_names_is_told_too(tmp_path):
    with mounted(tmp_path / "disk", "nr_inodes=2") as disk:
        (disk / "last").touch()
        with pytest.raises(OutputError, match="No space left on device"):
            write_atomically(str(disk / "file"), writes(b""))
        assert os.listdir(disk) == ["last"]


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path):
    def fails(file):
        file.write(b"half")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        write_atomically(str(tmp_path / "file"), fails)
    assert os.listdir(tmp_path) == []


# Calls that write, and where they may stand outside of write_atomically(), with the reason
WRITERS = {"open", "save", "savefig", "write_text", "write_bytes", "dump", "FileIO", "copy", "copyfileobj"}
IN_PLACE = {
    "igoas_plugin/core/files.py": "write_atomically() itself",
    "tools/benchmarks/loader.py": "images in a temporary folder",
    "igoas_plugin/core/timing.py": "a file of /proc, which tells the system something",
    "igoas_plugin/reports/comparison/training.py": "what is appended to: console.txt, made_by.txt",
    "igoas_plugin/datasets/drawn_folder.py": "a folder that gets its name when it is complete",
    "igoas_plugin/engine/log_files.py": "log.txt is appended to",
    "igoas_plugin/engine/metrics_file.py": "metrics.json, which a writer may have open",
    "igoas_plugin/datasets/prepare/prepared_folder.py": "a folder that gets its name when it is complete",
    "igoas_plugin/datasets/prepare/unpack.py": "a temporary folder",
    "igoas_plugin/checkpoint/checkpoint_file.py": "bytes, which write_atomically() gets",
}


def writes_in_place(path: Path) -> list[str]:
    """Returns the lines of a module that write a file without write_atomically()."""
    tree, found = ast.parse(path.read_text()), []
    given = {name.arg for each in ast.walk(tree) if isinstance(each, ast.Lambda) for name in each.args.args}
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        words = [ast.unparse(each) for each in (*call.args, *(keyword.value for keyword in call.keywords))]
        into = {word for word in words if word in given or word in ("content", "file")}
        reads = name == "open" and not any(
            word.strip("'") in ("w", "wb", "a", "ab", "x", "xb", "r+b") for word in words
        )
        own = name in ("save", "dump", "copy") and not words  # GrowingGallery.save(), cfg.dump(), array.copy()
        function = ast.unparse(call.func)
        harmless = function in ("archive.open", "copy.copy", "growing.save")
        harmless = harmless or function.startswith("self.") or function.endswith("checkpointer.save")
        if name in WRITERS and not (reads or own or into or harmless):
            found.append(f"{path.relative_to(ROOT)}:{call.lineno} {ast.unparse(call)}")
    return found


def test_no_other_module_writes_files_in_place():
    modules = [path for folder in ("igoas_plugin", "tools") for path in (ROOT / folder).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): writes_in_place(path) for path in modules}
    assert {name: lines for name, lines in found.items() if lines and name not in IN_PLACE} == {}
    assert [name for name in IN_PLACE if not found[name]] == []
