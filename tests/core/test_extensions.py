"""IMPORTS and installed extensions: modules of users are imported by name, and mistakes are one line."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import tiny_data
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.engine import default_setup

from igoas_plugin.config import get_cfg, load_cfg
from igoas_plugin.core import extensions
from igoas_plugin.core.errors import InputError
from igoas_plugin.core.extensions import import_modules, load_extensions
from igoas_plugin.inference.predictor import Predictor

# name of a module: (its source, the message)
BROKEN = {
    "user_names": (
        "import igoas_plugin\n\nundefined\n",
        r"NameError: name 'undefined' is .*user_names.py, line 3",
    ),
    "user_syntax": ("import os\ndef f(:\n", r"SyntaxError: invalid syntax.* \(.*user_syntax.py, line 2\)"),
    "user_exits": ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(.*user_exits.py, line 2\)"),
    "user_lacks": ("import not_installed_here\n", "ModuleNotFoundError: No module named 'not_installed_here'"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, whose modules are forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    extensions.IMPORTED.clear()
    for name in set(sys.modules) - before:
        if name.startswith("user_"):
            del sys.modules[name]


def test_a_file_imports_modules_of_the_working_directory_once_and_names_them_in_the_log(here, host_log):
    (here / "user_part.py").write_text("import igoas_plugin\ntimes = globals().get('times', 0) + 1\n")
    (here / "user_pack").mkdir()
    (here / "user_pack" / "part.py").write_text("")
    (here / "run.yml").write_text("IMPORTS: [user_part, user_pack.part]")
    for _ in range(2):
        cfg = load_cfg("run.yml")
    assert tuple(cfg.IMPORTS) == ("user_part", "user_pack.part")
    assert sys.modules["user_part"].times == 1 and "user_pack.part" in sys.modules
    assert [record.message for record in host_log.records] == [
        f"Imported user_part from {here / 'user_part.py'}",
        f"Imported user_pack.part from {here / 'user_pack' / 'part.py'}",
    ]


def test_the_way_of_fast_reid_s_own_scripts_to_read_a_config_imports_too(here):
    (here / "user_script.py").write_text("")
    (here / "run.yml").write_text("IMPORTS: [user_script]")
    get_cfg().merge_from_file("run.yml")  # the demo and the teachers of a distillation stop here
    assert "user_script" in sys.modules


def test_the_set_up_of_a_run_imports_what_only_its_command_line_names_and_writes_it_down(baseline_cfg, here):
    (here / "user_set_up.py").write_text("")
    baseline_cfg.merge_from_list(["IMPORTS", "['user_set_up']"])
    default_setup(baseline_cfg, Namespace(config_file=""))
    run = Path(baseline_cfg.OUTPUT_DIR)
    assert f"Imported user_set_up from {here / 'user_set_up.py'}" in (run / "log.txt").read_text(encoding="utf-8")
    del sys.modules["user_set_up"]
    load_cfg(str(run / "config.yaml"))
    assert "user_set_up" in sys.modules


def test_the_command_line_imports_too_and_no_file_of_the_working_directory_hides_a_library(here):
    (here / "user_line.py").write_text("")
    (here / "statistics.py").write_text("raise OSError")
    sys.modules.pop("statistics", None)
    load_cfg("", ["IMPORTS", "['user_line', 'statistics']"])
    assert "user_line" in sys.modules and hasattr(sys.modules["statistics"], "median")


@pytest.mark.parametrize("name", ["my_data.py", "/tmp/my_data", "../my_data", "my-data", "", "a..b", 3, ".my_data"])
def test_what_is_no_name_of_a_module_is_refused(here, name):
    with pytest.raises(InputError, match="IMPORTS takes names of Python modules, got .*: for the file my_data.py"):
        import_modules([name])


def test_a_module_that_is_not_there_is_told_with_the_remedy(here):
    with pytest.raises(InputError, match="IMPORTS: there is no module user_none: start in the folder of user_none.py"):
        import_modules(["user_none"])


def test_errors_of_the_environment_variable_name_it(here):
    (here / "user_names.py").write_text("undefined")
    messages = {"user_none": "there is no", "my.py": "takes names of", "user_names": "user_names cannot be imported"}
    for name, message in messages.items():
        with pytest.raises(InputError, match=f"^IGOAS_PLUGIN_IMPORT:? {message}"):
            import_modules([name], source="IGOAS_PLUGIN_IMPORT")


@pytest.mark.slow  # a process of its own, because this one has imported the plugin
def test_the_environment_variable_is_read_when_the_plugin_is_imported(here, monkeypatch):
    monkeypatch.setenv("IGOAS_PLUGIN_IMPORT", "user_none")
    done = subprocess.run([sys.executable, "-c", "import igoas_plugin"], capture_output=True, text=True)
    assert "InputError: IGOAS_PLUGIN_IMPORT: there is no module user_none" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", BROKEN)
def test_an_error_inside_a_module_is_one_line_with_its_place(here, name):
    source, message = BROKEN[name]
    (here / f"{name}.py").write_text(source)
    with pytest.raises(InputError, match=f"^IMPORTS: {name} cannot be imported: {message}"):
        import_modules([name])


def test_errors_of_the_plugin_inside_a_module_are_kept(here):
    (here / "user_twice.py").write_text(
        "from fastreid.data.datasets import DATASET_REGISTRY\n@DATASET_REGISTRY.register()\nclass Market1501: pass\n"
    )
    with pytest.raises(InputError, match="^two modules register Market1501"):
        import_modules(["user_twice"])


class EntryPoint:
    """Entry point of an installed package, as importlib.metadata gives it."""

    def __init__(self, module):
        self.module, self.dist = module, type("Distribution", (), {"name": "users-package"})


def test_installed_packages_are_imported_by_their_entry_points(here, monkeypatch):
    (here / "user_extension.py").write_text("import igoas_plugin")
    monkeypatch.syspath_prepend(here)
    monkeypatch.setattr(extensions, "entry_points", lambda group: [EntryPoint("user_extension")] * 2)
    load_extensions()
    assert "user_extension" in sys.modules
    assert extensions.IMPORTED == {"user_extension": str(here / "user_extension.py")}


def test_an_installed_package_that_cannot_be_imported_is_named(here, monkeypatch):
    (here / "user_bad.py").write_text("undefined")
    monkeypatch.syspath_prepend(here)
    monkeypatch.setattr(extensions, "entry_points", lambda group: [EntryPoint("user_bad")])
    message = "package users-package: user_bad cannot be imported: NameError.*; correct it, or run pip uninstall users"
    with pytest.raises(ImportError, match=message):
        load_extensions()


# Every tool that reads a config: its words before the config, and after it
TOOLS = {
    "check_data": ((), ()),
    "compare": ((), ()),
    "export": ((), ("--output", "model.onnx")),
    "occlusion_curve": ((), ()),
    "random_splits": (("OccludedREIDHalfSplit",), ()),
    "search": (("index", "folder", "--output", "file.index"), ()),
    "train_net": ((), ()),
    "visualize": (("ranks",), ()),
}


def test_every_tool_imports_the_modules_of_a_config_before_it_looks_for_their_names(here, call_tool):
    config = here / "run" / "config.yaml"
    config.parent.mkdir()
    config.write_text("IMPORTS: [user_none]\nDATASETS: {NAMES: [UserData], TESTS: [UserData]}")
    words = {name: (*before, "--config-file", config, *after) for name, (before, after) in TOOLS.items()}
    words |= {"compare": (config,), "report": ("run",)}
    for name, each in words.items():
        done = call_tool(name, *each)
        assert (done.returncode, "IMPORTS: there is no module user_none" in done.stderr) == (2, True), (name, done)
    with pytest.raises(InputError, match="there is no module user_none"):
        Predictor(config)


def test_a_data_set_of_ones_own_is_checked_by_its_name_or_by_a_config(here, call_tool, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(here))
    tiny_data.make_tiny_data(here)
    (here / "user_data.py").write_text(
        "import tiny_data\nfrom fastreid.data.datasets import DATASET_REGISTRY\n"
        "DATASET_REGISTRY.register(type('UserData', (tiny_data.TinyReID,), {}))\n"
    )
    (here / "run.yml").write_text("IMPORTS: [user_data]\nDATASETS: {NAMES: [UserData], TESTS: [TinyReID, UserData]}")
    by_config = call_tool("check_data", "--config-file", "run.yml")
    by_name = call_tool("check_data", "UserData", "IMPORTS", "['user_data']")
    assert (by_config.returncode, by_name.returncode) == (0, 0), by_config.stderr + by_name.stderr
    assert [by_config.stdout.count(name) for name in ("| UserData", "| TinyReID")] == [3, 3]
    assert by_name.stdout.count("| UserData") == 3 and "TinyReID" not in by_name.stdout and "| 16 " in by_name.stdout
    DATASET_REGISTRY._obj_map.pop("UserData")
