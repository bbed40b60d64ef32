"""Config files from a stranger: nothing in them is executed or downloaded."""

import json
import os
import time
from pathlib import Path

import pytest
from fastreid.config import CfgNode

import igoas_plugin
from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError, printable
from igoas_plugin.core.yaml_file import read_config

ROOT = Path(__file__).parents[2]


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def refusal(path) -> str:
    """Returns the one line that the plugin's reader and fast-reid's method raise, within 5 s of computing."""
    start = time.process_time()
    with pytest.raises(InputError) as ours:
        load_cfg(path)
    with pytest.raises(InputError) as hosts:
        igoas_plugin.get_cfg().merge_from_file(path, allow_unsafe=True)
    assert str(ours.value) == str(hosts.value) and "\n" not in str(ours.value)
    assert time.process_time() - start < 5
    return str(ours.value)


def test_without_the_plugin_a_config_is_executed_fetched_and_followed_in_circles(raw_host):
    assert raw_host["untrusted_configs"] == {
        "executed": True,
        "asked for": "https://example.org/base.yml",
        "loop": "RecursionError",
    }


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system", "!!python/name:os.system"]
)
def test_a_tag_that_runs_python_is_refused_though_the_host_is_asked_for_an_unsafe_loader(tag, tmp_path):
    path = written(tmp_path / "run.yml", f"SEED: {tag} ['touch {tmp_path}/created']\n")
    assert "could not determine a constructor for the tag" in refusal(path)
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("text, reason", [
    ("SEED: !!bool maybe", "'maybe'"),
    ("SEED: !!int ''", "index out of range"),
    ("SEED: !!timestamp x", "AttributeError|group"),
    ("? [1]\n: 2", "unhashable key"),
    ("SEED: 2020-13-40", "month must be in 1..12"),
    ("SEED: 1\n---\nSEED: 2", "single document"),
    ("SEED: [", "expected the node content"),
    ("SEED: *unknown", "undefined alias"),
    ("SEED: \x01", "special characters are not allowed"),
    ("SEED: 2020-01-01", "not a valid type"),
])  # fmt: skip
def test_what_yaml_trips_over_is_one_line(text, reason, tmp_path):
    with pytest.raises(InputError, match=f"run.yml(: | cannot be read: ).*({reason})") as caught:
        load_cfg(written(tmp_path / "run.yml", text))
    assert "\n" not in str(caught.value)


# Huge and endless files


@pytest.mark.parametrize("text, message", [
    ("SEED: " + "[" * 5000 + "]" * 5000, "cannot be read: it is nested too deeply, or holds itself"),
    ("SEED: " + "{a: " * 5000 + "1" + "}" * 5000, "cannot be read: it is nested too deeply, or holds itself"),
    ("MODEL: &m {HEADS: {NAME: *m}}", "cannot be read: it is nested too deeply, or holds itself"),
    ("SEED: &a [*a]", "cannot be read: it is nested too deeply, or holds itself"),
    ("#" * 2**20 + "\n", "larger than 1048576 bytes"),
])  # fmt: skip
def test_a_config_that_is_huge_or_endless_is_refused(text, message, tmp_path):
    assert message in refusal(written(tmp_path / "run.yml", text))


def test_a_few_aliases_are_taken(tmp_path):
    text = "INPUT: {SIZE_TRAIN: &size [64, 32], SIZE_TEST: *size}\nMODEL: {IGOAS: {MASK_LOSS: &loss {SCALE: 2.0}}}"
    assert load_cfg(written(tmp_path / "run.yml", text)).INPUT.SIZE_TEST == [64, 32]


@pytest.mark.parametrize("value", ["-" * 100_000 + "1", "(" * 5000 + ")" * 5000, "[" * 150 + "]" * 150])
def test_a_value_that_is_nested_beyond_what_python_parses_is_one_line(value, tmp_path):
    for config, opts in ((written(tmp_path / "run.yml", f"SEED: '{value}'"), []), ("", ["SEED", value])):
        with pytest.raises(InputError) as caught:
            load_cfg(config, opts)
        assert "\n" not in str(caught.value)


# _BASE_


@pytest.mark.parametrize("base, way", [
    ("run.yml", "run.yml -> {folder}/run.yml"),
    ("other.yml", "run.yml -> {folder}/other.yml -> {folder}/run.yml"),
    ("link.yml", "run.yml -> {folder}/link.yml"),
])  # fmt: skip
def test_bases_that_loop_are_refused_with_their_chain(base, way, tmp_path):
    written(tmp_path / "other.yml", "_BASE_: ./run.yml\n")
    path = written(tmp_path / "run.yml", f"_BASE_: {base}\n")
    (tmp_path / "link.yml").symlink_to(tmp_path / "run.yml")
    line = refusal(path)
    assert "_BASE_ leads back to itself" in line and line.endswith(way.format(folder=tmp_path))


@pytest.mark.parametrize("address", ["http://example.org/a.yml", "https://example.org/a.yml", "s3://bucket/a.yml"])
def test_a_base_that_is_an_address_is_not_downloaded(address, tmp_path, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was made"))
    assert "a _BASE_ that does not exist" in refusal(written(tmp_path / "run.yml", f"_BASE_: {address}\n"))


@pytest.mark.parametrize("base", ["[a.yml, b.yml]", "1", "{a: b}"])
def test_a_base_that_is_no_path_is_refused(base, tmp_path):
    assert "is no path: name one file" in refusal(written(tmp_path / "run.yml", f"_BASE_: {base}\n"))


def test_a_base_may_lie_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    elsewhere = written(tmp_path / "elsewhere" / "a.yml", "SEED: 5\n")
    written(tmp_path / "home" / "a.yml", "SEED: 5\n")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "link.yml").symlink_to(elsewhere)
    for base in (elsewhere, "../../elsewhere/a.yml", "~/a.yml", "link.yml"):
        assert read_config(written(tmp_path / "deep" / "er" / "run.yml", f"_BASE_: {base}\n")) == {"SEED": 5}


def test_a_config_elsewhere_may_inherit_from_the_configs_of_the_plugin(tmp_path):
    base = os.path.relpath(ROOT / "configs" / "OccDuke" / "igoas_R50.yml", tmp_path)
    cfg = load_cfg(written(tmp_path / "run.yml", f"_BASE_: {base}\nSEED: 3\n"))
    assert (cfg.SEED, cfg.MODEL.META_ARCHITECTURE) == (3, "IGOAS")


@pytest.mark.parametrize("base", ["nowhere.yml", "circle.yml", "folder.yml", "x" * 5000, "", "a\0b", "\ud800"])
def test_a_base_that_is_not_there_is_named(base, tmp_path):
    (tmp_path / "circle.yml").symlink_to("circle.yml")
    (tmp_path / "folder.yml").mkdir()
    path = written(tmp_path / "run.yml", f"_BASE_: {json.dumps(base)}\n")
    assert refusal(path) == printable(f"config file {path} has a _BASE_ that does not exist: {tmp_path / base}")


def test_every_config_of_the_plugin_is_read_as_the_host_reads_it(monkeypatch):
    """Compares all files with fast-reid's unpatched reader: the same keys, except for a bare ON."""
    import importlib.util

    from fastreid.config import config as module

    spec = importlib.util.spec_from_file_location("fastreid.config.unmended", module.__file__)
    unmended = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unmended)
    files = [str(path) for path in (ROOT / "configs").rglob("*.yml")]
    assert len(files) > 50
    for path in files:
        assert repr(read_config(path)) == repr(unmended.CfgNode.load_yaml_with_base(path)).replace("True: ", "'ON': ")
    assert CfgNode.load_yaml_with_base is not unmended.CfgNode.load_yaml_with_base
