"""Two modules that register one name: the plugin gives way, and an error between others names both."""

import pytest
from fastreid.utils.registry import Registry

import igoas_plugin  # noqa: F401
from igoas_plugin.core.errors import InputError

OURS, THEIRS = "igoas_plugin.datasets.partial_reid", "partialreid.partial_dataset"


def named(module: str) -> type:
    """Returns a class PartialREID of a module."""
    return type("PartialREID", (), {"__module__": module})


@pytest.mark.parametrize("modules", [(OURS, THEIRS), (THEIRS, OURS)])
def test_the_plugin_gives_way_to_a_project_with_one_line_whichever_comes_first(modules, host_log):
    registry = Registry("DATASET")
    for module in modules:
        registry.register(named(module))
    assert registry.get("PartialREID").__module__ == THEIRS
    assert [record.message for record in host_log.records] == [
        f"PartialREID in the registry DATASET: the class of {THEIRS} replaces that of {OURS}"
    ]


@pytest.mark.parametrize(
    "first, second", [("one", "two"), ("fastreid.data.datasets", THEIRS), (OURS, "igoas_plugin.datasets.other")]
)
def test_a_collision_between_others_or_within_the_plugin_is_refused_in_one_line_with_both_modules(first, second):
    registry = Registry("DATASET")
    registry.register(named(first))
    with pytest.raises(InputError) as raised:
        registry.register(named(second))
    assert str(raised.value) == (
        f"two modules register PartialREID in the registry DATASET: {first}, and now {second}; "
        "import one of them only, or rename yours"
    )
    assert registry.get("PartialREID").__module__ == first


@pytest.mark.parametrize("name", ["OccludedREID", "PartialREID", "PartialiLIDS"])
def test_the_names_of_fast_reid_s_project_are_the_plugin_s(name):
    from fastreid.data.datasets import DATASET_REGISTRY

    assert DATASET_REGISTRY.get(name).__module__.startswith("igoas_plugin.datasets.")


def test_without_the_plugin_the_error_does_not_say_who_has_the_name(raw_host):
    assert raw_host["a_name_registered_twice"] == (
        "AssertionError: An object named 'Market1501' was already registered in 'DATASET' registry!"
    )
