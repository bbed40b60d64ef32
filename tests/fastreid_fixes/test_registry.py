"""Two modules that register one name: the error names both, whichever comes first."""

import subprocess
import sys

import pytest

PROJECT = """
from fastreid.data.datasets import DATASET_REGISTRY

class PartialREID: pass
PartialREID.__module__ = "partialreid.partial_dataset"
"""
REGISTER = "DATASET_REGISTRY.register(PartialREID)\n"


def last_line(script):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def test_a_project_that_comes_second_is_refused_in_one_line_with_both_modules():
    assert last_line("import igoas_plugin\n" + PROJECT + REGISTER) == (
        "igoas_plugin.core.errors.InputError: two modules register PartialREID in the registry DATASET: "
        "igoas_plugin.datasets.partial_reid, and now partialreid.partial_dataset; import one of them only, "
        "or rename yours"
    )


def test_the_plugin_is_refused_too_if_it_comes_second():
    script = (
        "import importlib, igoas_plugin\n"
        "from igoas_plugin.datasets import partial_reid\n"
        "from fastreid.data.datasets import DATASET_REGISTRY\n"
        "del DATASET_REGISTRY._obj_map['PartialREID']\n"  # as if the plugin had not been imported yet
    )
    script += PROJECT + REGISTER + "importlib.reload(partial_reid)\n"
    assert "partialreid.partial_dataset, and now igoas_plugin.datasets.partial_reid" in last_line(script)


@pytest.mark.parametrize("name", ["OccludedREID", "PartialREID", "PartialiLIDS"])
def test_the_names_of_fast_reid_s_project_are_the_plugin_s(name):
    import igoas_plugin  # noqa: F401

    # isort: split
    from fastreid.data.datasets import DATASET_REGISTRY

    assert DATASET_REGISTRY.get(name).__module__.startswith("igoas_plugin.datasets.")


def test_without_the_plugin_the_error_does_not_say_who_has_the_name(raw_host):
    assert raw_host["a_name_registered_twice"] == (
        "AssertionError: An object named 'Market1501' was already registered in 'DATASET' registry!"
    )
