"""Text files are UTF-8 in every locale, those that fast-reid opens too, and no line of a log is lost."""

import ast
import io
import logging
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import fastreid
import pytest
from fastreid.engine import default_setup
from fastreid.utils.file_io import PathManager
from in_process import TINY_NETWORK
from tiny_data import make_tiny_duke

from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.engine.log_files import LogStream
from igoas_plugin.fastreid_fixes.file_reading import OPENING, open_as_utf8

TEXT = "# 行人重识别 é\n"
FASTREID = Path(fastreid.__file__).parent


def opens_text(source: str) -> bool:
    """Returns whether a source calls open() in a mode that is not a constant with a b."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    opening = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "open"]
    modes = [[each.value for each in call.args[1:2] if isinstance(each, ast.Constant)] for call in opening]
    return any("b" not in "".join(mode) for mode in modes)


def test_every_module_of_fast_reid_that_opens_text_files_is_patched():
    found = set()
    for path in FASTREID.rglob("*.py"):
        if opens_text(path.read_text(encoding="utf-8")):
            found.add(".".join(["fastreid", *path.relative_to(FASTREID).with_suffix("").parts]))
    assert found == set(OPENING)
    assert {name for name in found if vars(sys.modules[name]).get("open") is not open_as_utf8} == set()


def test_fast_reid_reads_and_writes_utf8(tmp_path, raw_host):
    assert raw_host["config_with_a_chinese_comment"].startswith("UnicodeDecodeError: 'ascii' codec")
    with PathManager.open(str(tmp_path / "text"), "w") as file:
        file.write(TEXT)
    assert file.encoding == "utf-8" and (tmp_path / "text").read_bytes() == TEXT.encode()
    with PathManager.open(str(tmp_path / "text"), "r", encoding="latin-1") as file:
        assert file.encoding == "latin-1"
    with PathManager.open(str(tmp_path / "text"), "rb") as file:
        assert file.read() == TEXT.encode()


def test_a_log_has_every_character_and_those_that_no_encoding_has_as_escape_sequences(tmp_path):
    stream = LogStream(str(tmp_path / "log.txt"))
    stream.write(TEXT)
    stream.write("name\udcff\n")
    assert (tmp_path / "log.txt").read_bytes() == TEXT.encode() + b"name\\udcff\n"


def test_a_console_of_another_encoding_gets_every_line(monkeypatch, baseline_cfg, tmp_path):
    def console():
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "gbk"))
        return sys.stdout

    tool = console()
    with errors_in_one_line():
        print("naïve 行人")
    tool.flush()
    assert tool.buffer.getvalue().decode("gbk") == "na\\xefve 行人\n"

    run = console()
    (tmp_path / "run.yml").write_text("# naïve 行人", encoding="utf-8")
    default_setup(baseline_cfg, Namespace(config_file=str(tmp_path / "run.yml")))
    logging.getLogger("fastreid.project").info("# naïve 行人")
    run.flush()
    assert "# na\\xefve 行人\n" in run.buffer.getvalue().decode("gbk")
    assert "# naïve 行人\n" in (Path(baseline_cfg.OUTPUT_DIR) / "log.txt").read_text(encoding="utf-8")


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONWARNDEFAULTENCODING": "1"}
RUN = """
import locale, runpy, sys, warnings
assert locale.getpreferredencoding(False) == "ANSI_X3.4-1968"
warnings.filterwarnings("error", category=EncodingWarning, module="igoas_plugin|fastreid")
del sys.argv[0]
sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_a_run_and_its_report_in_a_locale_of_ascii_open_no_file_in_its_encoding(tool_command, tmp_path):
    make_tiny_duke(tmp_path / "datasets")
    (tmp_path / "run.yml").write_text(TEXT + "IMPORTS: [tiny_data]", encoding="utf-8")
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **ASCII, "PYTHONPATH": path, "FASTREID_DATASETS": str(tmp_path / "datasets")}

    def run(*words):
        command = [sys.executable, "-c", RUN, *map(str, words)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
        assert done.returncode == 0, done.stderr[-3000:]

    train_net, *words = tool_command(*TINY_NETWORK, "MODEL.DEVICE", "cpu", config=tmp_path / "run.yml")
    run(train_net, *words)
    assert TEXT in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    run(Path(train_net).with_name("report.py"), tmp_path / "run")
