"""Command lines: help, mistakes and missing files are answered by the standard library alone."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from failures import Failures
from fastreid.engine import default_argument_parser

from igoas_plugin.config import flat_keys, get_cfg
from igoas_plugin.datasets.prepare import LINKS, RECIPES
from igoas_plugin.evaluation.ranking.neighbour_index import KINDS
from igoas_plugin.inference.onnx_export import INPUTS, OPSET
from igoas_plugin.reports.figures.embedding import METHODS

TOOLS = Path(__file__).parents[2] / "tools"
NAMES = sorted(path.stem for path in TOOLS.glob("*.py") if path.stem != "tool_arguments")
TOY = str(TOOLS.parent / "configs" / "Toy" / "igoas_R18.yml")
# Runs a tool where no library but the standard one can be imported
BLOCKED = """
import runpy, sys
sys.path.insert(0, {folder!r})
for name in ("torch", "numpy", "fastreid", "matplotlib", "tqdm", "igoas_plugin"):
    sys.modules[name] = None
sys.argv = {words!r}
runpy.run_path(sys.argv[0], run_name={name!r})
"""


def run(tool: str, *words: str, name: str = "__main__") -> subprocess.CompletedProcess:
    code = BLOCKED.format(folder=str(TOOLS), words=[str(TOOLS / f"{tool}.py"), *words], name=name)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def arguments(tool: str, *words: str):
    return runpy.run_path(str(TOOLS / f"{tool}.py"))["arguments"](list(words))


@pytest.fixture(autouse=True)
def tools_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))


def test_every_tool_answers_help_without_a_library():
    failures = Failures()
    for tool in NAMES:
        with failures.of(tool):
            done = run(tool, "--help")
            assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(f"usage: {tool}.py")
    assert failures == []


def test_help_of_train_net_describes_this_tool():
    text = run("train_net", "--help").stdout
    assert "Trains a model, or evaluates a trained one." in text and "fastreid Training" not in text


MISTAKES = [
    ("check_data", ("--config-file", "no.yml"), "config file no.yml does not exist"),
    ("compare", ("no.yml",), "config file no.yml does not exist"),
    ("compare", ("--seeds", "0", TOY), "give at least one config file and one seed"),
    ("convert_checkpoint", ("no.pth", "out.pth"), "no.pth does not exist"),
    ("convert_pretrained", ("no.pth", "out.pth"), "no.pth does not exist"),
    ("export", ("--config-file", "no.yml", "--output", "a.onnx"), "config file no.yml does not exist"),
    ("export", ("--config-file", TOY), "the following arguments are required: --output"),
    ("occlusion_curve", (), "give each model as --config-file FILE MODEL.WEIGHTS PATH"),
    ("occlusion_curve", ("--config-file", "no.yml"), "config file no.yml does not exist"),
    ("prepare_data", ("PETHZ", "--source", "no"), "no does not exist: give --source the folder or archive"),
    ("random_splits", ("--config-file", TOY), "PROTOCOL is missing"),
    ("random_splits", ("OccludedREIDHalfSplit", "--config-file", "no.yml"), "config file no.yml does not exist"),
    ("report", ("no",), "no/config.yaml does not exist: give the folder that tools/train_net.py wrote a run into"),
    ("report", (), "report.py: error: the following arguments are required: RUN_DIR\n"),
    ("search", ("index", "folder", "--output", "a.index", "--config-file", "no.yml"), "config file no.yml does not"),
    ("search", ("query", "a.jpg", "--index", "no.index", "--config-file", TOY), "no.index does not exist: make it by"),
    ("search", ("query", "a.jpg", "--index", "no.index", "--model", "no.onnx"), "no.onnx does not exist: name a file"),
    ("summarize", ("no",), "no/results.json does not exist: no holds no finished run"),
    ("train_net", (), "--config-file is missing"),
    ("train_net", (TOY,), f"{TOY} needs --config-file before it: --config-file {TOY}"),
    ("train_net", ("--config-file", "no.yml"), "config file no.yml does not exist"),
    ("train_net", ("--config-file", TOY, "MODEL.WEIGHTS", "no.pth"), "checkpoint no.pth does not exist"),
    ("train_net", ("--config-fil", TOY), "unrecognized arguments"),
    ("visualize", ("ranks",), "--config-file is missing"),
    ("visualize", ("ranks", "--config-file", "no.yml"), "config file no.yml does not exist"),
    ("visualize", ("curves", "no"), "no does not exist: name the folder of a run"),
    ("benchmark", ("train", "--config-file", "no.yml"), "config file no.yml does not exist"),
]


def test_mistakes_and_missing_files_are_answered_without_a_library():
    failures = Failures()
    assert {tool for tool, _, _ in MISTAKES} == set(NAMES)
    for tool, words, message in MISTAKES:
        with failures.of(f"{tool} {words}"):
            done = run(tool, *words)
            assert done.returncode == 2 and message in done.stderr, done.stderr
            assert "Traceback" not in done.stderr and done.stdout == ""
    assert failures == []


def test_of_the_processes_of_torchrun_one_prints_a_mistake(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    first = run("train_net", "--config-file", "no.yml")
    monkeypatch.setenv("LOCAL_RANK", "1")
    second = run("train_net", "--config-file", "no.yml")
    assert first.returncode == second.returncode == 2 and "no.yml" in first.stderr and second.stderr == ""


def test_a_spawned_process_imports_the_plugin_first():
    failures = Failures()
    for tool in NAMES:
        with failures.of(tool):
            done = run(tool, name="__mp_main__")
            assert "import of igoas_plugin halted" in done.stderr
    assert failures == []


def test_choices_and_keys_in_the_tools_are_those_of_the_package():
    words = runpy.run_path(str(TOOLS / "tool_arguments.py"))
    assert {key for key in flat_keys(get_cfg()) if "." not in key} == set(words["ONE_WORD_KEYS"])
    assert all(words["is_key"](key) for key in flat_keys(get_cfg()))
    assert not any(words["is_key"](word) for word in ("MSMT17", "Market1501", "CUHK03", "a.jpg", "logs/run"))
    assert runpy.run_path(str(TOOLS / "prepare_data.py"))["NAMES"] == tuple(RECIPES)
    export = ("--config-file", TOY, "--output", "a.onnx")
    assert (arguments("export", *export).input, arguments("export", *export).opset) == (INPUTS[0], OPSET)
    for each in INPUTS:
        assert arguments("export", *export, "--input", each).input == each
    for each in KINDS:
        index = ("index", "crops", "--output", "a", "--model", "m.onnx", "--kind", each)
        assert arguments("search", *index).kind == each
    for each in LINKS:
        assert arguments("prepare_data", "PETHZ", "--source", "a", "--link", each).link == each
    for each in METHODS:
        assert arguments("visualize", "embedding", "--method", each).method == each


def test_options_of_train_net_are_those_of_fast_reid():
    for words in ([], ["--config-file", TOY, "--resume", "--eval-only", "--num-gpus", "2", "SEED", "3"]):
        assert vars(arguments("train_net", *words)) == vars(default_argument_parser().parse_args(words))
