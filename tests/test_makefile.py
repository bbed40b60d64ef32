"""The Makefile, in a copy of its own beside the two files that it reads; nothing is installed."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = ("help", "setup", "train", "lint", "test", "test-all", "test-faults", "test-oldest")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make on this machine")


@pytest.fixture
def make(tmp_path):
    """Runs make in the copy's folder, whose PATH begins with tmp_path / "bin"."""
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment = {**kept, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def run(*words):
        return subprocess.run(["make", *words], capture_output=True, text=True, cwd=tmp_path, env=environment)

    return run


@pytest.fixture
def ready(tmp_path):
    """A .venv that is complete, and older than nothing."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".venv" / ".ready").write_text(f"{tmp_path}\n")


def test_make_alone_lists_every_target(make):
    lines = make().stdout.splitlines()
    assert [line.split()[1] for line in lines] == list(TARGETS)
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("answer, extra", [("echo 'GPU 0: a card'", "gpu"), ("exit 9", "cpu")])
def test_faiss_is_chosen_by_the_driver(make, tmp_path, answer, extra):
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\n{answer}\n")
    driver.chmod(0o755)
    planned = make("-n", "setup").stdout
    assert f'-e ".[{extra},dev]"' in planned
    assert re.search(r"--no-deps fastreid==1\.4\.0", planned)


def test_a_complete_set_up_is_used_again_unless_its_files_changed_or_it_moved(make, ready, tmp_path):
    assert make("-q", "setup").returncode == 0
    later = (tmp_path / ".venv" / ".ready").stat().st_mtime + 10
    os.utime(tmp_path / "setup.cfg", (later, later))
    assert make("-q", "setup").returncode == 1
    os.utime(tmp_path / ".venv" / ".ready", (later + 10, later + 10))
    assert make("-q", "setup").returncode == 0
    (tmp_path / ".venv" / ".ready").write_text("/another/folder\n")
    os.utime(tmp_path / ".venv" / ".ready", (later + 10, later + 10))
    assert make("-q", "setup").returncode == 1


def test_a_set_up_that_was_cut_off_is_made_anew(make, ready, tmp_path):
    (tmp_path / ".venv" / ".unfinished").touch()
    assert make("-q", "setup").returncode == 1


def test_train_evaluates_the_untrained_model_trains_and_prints_one_table(make, ready):
    planned = [line for line in make("-n", "train").stdout.splitlines() if line.startswith(".venv/bin/python tools/")]
    assert len(planned) == 3
    assert "train_net.py" in planned[0] and "--eval-only" in planned[0]
    assert "train_net.py" in planned[1] and "--eval-only" not in planned[1]
    assert "summarize.py" in planned[2]


def quoted(words: str) -> str:
    return f'"{words}"' if " " in words else words


@pytest.mark.parametrize("target, selected", [("test", None), ("test-all", "not gpu"), ("test-faults", "fault")])
def test_the_tests_come_after_ruff(make, ready, target, selected):
    planned = make("-n", target, "FAISS=cpu").stdout.splitlines()
    assert planned[0] == ".venv/bin/python -m ruff check ."
    pytest_line = "PYTHONWARNDEFAULTENCODING=1 .venv/bin/python -m pytest -n auto --maxprocesses 8 --dist loadfile"
    assert planned[1] == pytest_line + (f" -m {quoted(selected)}" if selected else "")


def test_the_oldest_packages_go_into_an_environment_of_their_own(make, ready):
    planned = make("-n", "test-oldest", "FAISS=cpu", "TESTS=tests/modeling").stdout.splitlines()
    (installs,) = [line for line in planned if '-e ".[cpu,dev]"' in line]
    assert ".venv-oldest/bin/python -m pip install" in installs and "-c .venv-oldest/oldest.txt" in installs
    assert planned[-1] == ".venv-oldest/bin/python -m pytest -n auto --maxprocesses 8 --dist loadfile tests/modeling"
    assert not any(re.search(r"\.venv/", line) for line in planned)


def test_the_usual_environment_has_no_upper_limits(make):
    assert "oldest" not in make("-n", "setup").stdout


def test_every_lower_bound_of_setup_cfg_is_tried(make, tmp_path):
    (write,) = [line for line in make("-n", "test-oldest").stdout.splitlines() if "setup.cfg >" in line]
    command = write.split(" >.venv-oldest")[0]
    found = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path).stdout.split()
    cfg = configparser.ConfigParser()
    cfg.read(ROOT / "setup.cfg")
    texts = [cfg["options"]["install_requires"], *cfg["options.extras_require"].values()]
    lines = [
        line for text in texts for line in text.splitlines() if line and not line.startswith(("#", "igoas_plugin"))
    ]
    assert found == [re.sub(r"^([\w-]+) >=([\d.]+).*", r"\1==\2", line) for line in lines]
    assert len(found) > 25 and "torch==2.4" in found
