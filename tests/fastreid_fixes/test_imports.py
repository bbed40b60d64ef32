import collections
import copy
import inspect
import pickle
import runpy
import subprocess
import sys

from failures import Failures
from fastreid.data.common import CommDataset

from igoas_plugin.fastreid_fixes import FIXES
from igoas_plugin.fastreid_fixes.imports import FASTREID_VERSION, require_fastreid


def test_names_restored_for_fast_reid_are_removed_again(raw_host):
    without_six, without_mapping = raw_host["plain_imports"]
    assert "torch._six" in without_six and "Mapping" in without_mapping
    assert not hasattr(collections, "Mapping")
    assert "torch._six" not in sys.modules


def test_a_spawned_worker_unpickles_a_data_set_of_fast_reid_and_loads_the_plugin_without_scikit_learn(raw_host):
    assert "torch._six" in raw_host["spawned_worker_without_the_plugin"]
    pickled = pickle.dumps(CommDataset([("a.png", "p", "c")]))
    code = (
        f"import pickle, sys; data = pickle.loads({pickled!r}); print(len(data), data.num_classes)\n"
        "print('sklearn' in sys.modules, 'faiss' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["1 1", "False True"], done.stderr


def test_scikit_learn_stays_imported():
    code = "import sklearn, sys; import igoas_plugin; print(sys.modules['sklearn'] is sklearn)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True"], done.stderr


def test_what_stands_in_fast_reid_s_modules_can_be_sent_to_spawned_processes():
    replacements = {
        f"{module.__name__}.{name}": value
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("fastreid.")
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith("igoas_plugin.")
    }
    assert len(replacements) > 20
    failures = Failures()
    for name, replacement in replacements.items():
        with failures.of(name):
            assert pickle.loads(pickle.dumps(replacement)) is replacement
    assert failures == []


class OwnDataSet(CommDataset):
    """Data set of a user."""


def test_a_data_set_of_the_user_s_own_pickles_too():
    data = pickle.loads(pickle.dumps(OwnDataSet([("a.png", "p", "c")])))
    assert type(data) is OwnDataSet and data.num_classes == 1


def test_without_fast_reid_the_pip_command_is_printed():
    code = (
        "import sys, importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'fastreid' else find(name, *rest)\n"
        "import igoas_plugin"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"pip install --no-deps fastreid=={FASTREID_VERSION}")


def test_another_version_of_fast_reid_gets_one_warning(monkeypatch, host_log):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.3.0")
    assert require_fastreid() == "1.3.0"
    assert [record.getMessage().count("found 1.3.0") for record in host_log.records] == [1]


def test_every_fix_tells_its_symptom():
    assert len(FIXES) >= 20
    for fix in FIXES:
        assert len(fix.__doc__.splitlines()[0]) > 20, fix.__name__


def test_the_table_names_fast_reid_torch_and_each_fix(capsys):
    runpy.run_module("igoas_plugin.fastreid_fixes", run_name="__main__")  # python -m igoas_plugin.fastreid_fixes
    printed = capsys.readouterr().out
    for word in ("1.4.0", "torch", "device", *(fix.__name__.replace("_", " ") for fix in FIXES)):
        assert word in printed


FASTREID_FIRST = """
import collections, collections.abc, sys, types
collections.Mapping = collections.abc.Mapping
sys.modules["torch._six"] = types.SimpleNamespace(string_classes=(str, bytes))
from fastreid.engine import default_setup, launch
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY, Baseline
from fastreid.solver import build_optimizer


@META_ARCH_REGISTRY.register()
class Mine(Baseline):
    def preprocess_image(self, batched_inputs):
        return "mine"

    def forward(self, batched_inputs, extra):
        return extra


import igoas_plugin
import fastreid.engine, fastreid.solver

assert build_optimizer is fastreid.solver.build_optimizer and build_optimizer.__module__.startswith("igoas_plugin")
assert launch is fastreid.engine.launch and launch.__module__.startswith("igoas_plugin")
assert default_setup is fastreid.engine.default_setup and default_setup.__module__.startswith("igoas_plugin")
assert Mine.preprocess_image(None, None) == "mine" and Mine.forward(None, None, extra=2) == 2
print("patched")
"""


def test_a_script_that_imported_fast_reid_first_gets_the_patched_names_and_keeps_its_own_classes():
    done = subprocess.run([sys.executable, "-c", FASTREID_FIRST], capture_output=True, text=True)
    assert done.stdout.split() == ["patched"], done.stderr


class WithHandle(CommDataset):
    """Data set with a file handle, which it leaves out of its pickle."""

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "handle"}


def test_a_data_set_pickles_and_copies_as_its_class_says():
    data = WithHandle([("a.png", "p", "c")])
    data.handle = sys.stdout
    assert not hasattr(pickle.loads(pickle.dumps(data)), "handle")
    data = CommDataset([("a.png", "p", "c")], transform=lambda image: image)
    assert copy.deepcopy(data).transform is data.transform and copy.copy(data).img_items is data.img_items
