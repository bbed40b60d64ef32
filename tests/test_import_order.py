"""Folders of the package import only folders before them, in the order of docs/architecture.md."""

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "igoas_plugin"
# Lowest first; checkpoint and evaluation stand side by side
ORDER = (
    *("core", "config", "fastreid_fixes", "datasets", "occlusion", "modeling", ("checkpoint", "evaluation"), "engine"),
    *("preflight", "inference", "reports", "cli"),
)
LEVEL = {
    folder: level
    for level, folders in enumerate(ORDER)
    for folder in ([folders] if isinstance(folders, str) else folders)
}
FILES = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}


def imports_of(module: str, source: str, is_package: bool, modules=MODULES) -> set[str]:
    """Returns the modules of the package that a source imports, inside functions too."""
    package = module if is_package else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            around = parts[: len(parts) - node.level + 1] if node.level else []
            base = [*around, *filter(None, [node.module])]
            for each in node.names:
                whole = ".".join([*base, each.name])
                found.add(whole if whole in modules else ".".join(base))
    return {name for name in found if name.split(".")[0] == PACKAGE.name}


def folder_of(module: str) -> str:
    """Returns the folder of a module, or the file at the root; "" for the package itself."""
    return f"{module}.".split(".")[1]


def upward(module: str, imported: set[str]) -> list[str]:
    """Returns the imports of a module from a folder above or beside its own, or from the package itself."""
    folder = folder_of(module)
    return [
        f"{module} imports {each}"
        for each in sorted(imported)
        if folder_of(each) != folder and LEVEL.get(folder_of(each), len(ORDER)) >= LEVEL[folder]
    ]


IMPORTS = {
    name: imports_of(name, path.read_text(encoding="utf-8"), path.name == "__init__.py")
    for name, path in MODULES.items()
}


def test_no_import_points_upwards():
    below = [name for name in IMPORTS if folder_of(name) not in ("", "host")]  # the package's own __init__ is above all
    assert sum(len(IMPORTS[name]) for name in below) > 300
    assert [wrong for name in below for wrong in upward(name, IMPORTS[name])] == []


def test_every_folder_has_its_place_in_the_order():
    assert {folder_of(name) for name in MODULES} - {"", "host"} == set(LEVEL)


def test_no_modules_import_each_other_in_a_circle():
    left = {name: {each for each in imported if each != name} for name, imported in IMPORTS.items()}
    # a package whose __init__ lists its modules is imported by none of them under its own name
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_a_file_name_occurs_once():
    names = Counter(path.name for path in MODULES.values() if not path.name.startswith("__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_few_files_lie_at_the_root_of_the_package():
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "config.py", "host.py", "preflight.py"}


@pytest.mark.parametrize(
    "source, wrong",
    [
        ("from igoas_plugin.engine import loader", ["igoas_plugin.modeling.heads imports igoas_plugin.engine.loader"]),
        ("def f():\n    from ..reports import html", ["igoas_plugin.modeling.heads imports igoas_plugin.reports.html"]),
        ("import igoas_plugin", ["igoas_plugin.modeling.heads imports igoas_plugin"]),
        ("from . import losses\nfrom ..core.errors import InputError", []),
    ],
)
def test_an_import_that_points_upwards_is_found(source, wrong):
    name = "igoas_plugin.modeling.heads"
    assert upward(name, imports_of(name, source, is_package=False)) == wrong
