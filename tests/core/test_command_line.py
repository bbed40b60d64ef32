"""Ctrl-C while a tool imports its libraries: one line and exit code 130."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The first library that the package imports
FASTREID = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    raise ImportError("as some libraries do")
"""


COMMANDS = (["tools/check_data.py"], ["tools/benchmark.py", "rank"], ["-m", "igoas_plugin.cli.train_net"])


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_ctrl_c_during_the_imports_of_a_tool_is_one_line(words, tmp_path):
    done = interrupted([str(ROOT / word) if word.startswith("tools/") else word for word in words], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("words", [["-c", "import igoas_plugin"], ["mine.py"]], ids=["-c", "own script"])
def test_in_another_program_it_is_an_exception_as_everywhere(words, tmp_path):
    (tmp_path / "mine.py").write_text("import igoas_plugin")
    done = interrupted(words, tmp_path)
    assert done.returncode == 1 and done.stderr.strip().endswith("ImportError: as some libraries do")


def interrupted(words, folder) -> subprocess.CompletedProcess:
    """Runs Python with a fast-reid that is interrupted when it is imported."""
    (folder / "fastreid").mkdir()
    (folder / "fastreid" / "__init__.py").write_text(FASTREID)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-W", "ignore", *words]
    options = {"capture_output": True, "text": True, "cwd": folder, "env": environment, "timeout": 50}
    return subprocess.run(command, **options, preexec_fn=hear_ctrl_c)


def hear_ctrl_c() -> None:
    """Handles Ctrl-C in the default way, because a child process inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
