"""Files of weights are read once a start, and the values of a model are built once."""

import os
from pathlib import Path

import pytest
import torch
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from saved_models import saved_model

from igoas_plugin.checkpoint import read_ahead
from igoas_plugin.checkpoint.checkpoint_file import load_file
from igoas_plugin.checkpoint.read_ahead import reading_ahead
from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.inference.trained import build_trained
from igoas_plugin.preflight import build_scratch_model

TOY = str(Path(__file__).parents[2] / "configs" / "Toy" / "igoas_R18.yml")


@pytest.fixture
def reads(monkeypatch):
    """Paths of all files that torch.load() reads."""
    paths, load = [], torch.load

    def counted(file, *args, **kwargs):
        paths.append(os.path.basename(file.name))
        return load(file, *args, **kwargs)

    monkeypatch.setattr(torch, "load", counted)
    return paths


@pytest.fixture
def builds(monkeypatch):
    """Device of each model that was built."""
    devices = []

    def count_builds(architecture):
        init = architecture.__init__

        def counted(self, *args, **kwargs):
            init(self, *args, **kwargs)
            devices.append(next(self.parameters()).device.type)

        monkeypatch.setattr(architecture, "__init__", counted)

    for name in ("Baseline", "IGOAS"):
        count_builds(META_ARCH_REGISTRY.get(name))
    return devices


@pytest.fixture
def checkpoint(tmp_path):
    path = str(tmp_path / "a.pth")
    torch.save({"model": {"weight": torch.ones(2)}, "optimizer": {"state": {}}, "epoch": 3}, path)
    return path


def test_what_was_read_ahead_is_taken_over_whole_and_once(checkpoint, reads):
    with reading_ahead():
        for _ in range(2):  # the checks may remove what they have loaded
            content = load_file(checkpoint)
            content.pop("optimizer")
            content["model"].pop("weight")
    taken = load_file(checkpoint)
    assert taken["model"]["weight"].tolist() == [1, 1] and {*taken} == {"model", "optimizer", "epoch"}
    assert reads == ["a.pth"] and not read_ahead._kept
    load_file(checkpoint)
    assert reads == ["a.pth", "a.pth"]


def test_a_file_that_has_changed_is_read_again(checkpoint, reads):
    with reading_ahead():
        load_file(checkpoint)
    torch.save({"model": {"weight": torch.zeros(300)}}, checkpoint)
    assert load_file(checkpoint)["model"]["weight"].shape == (300,)
    assert len(reads) == 2


def test_nothing_is_kept_after_an_error(checkpoint):
    with pytest.raises(InputError), reading_ahead():
        load_file(checkpoint)
        load_file("absent.pth")
    assert not read_ahead._kept


def test_values_are_read_where_the_checks_build_models_without_values(checkpoint):
    with torch.device("meta"), reading_ahead():
        assert load_file(checkpoint)["model"]["weight"].tolist() == [1, 1]


def test_a_trained_model_is_read_once_and_built_once(tmp_path, reads, builds):
    cfg = saved_model(tmp_path)
    reads.clear(), builds.clear()
    build_trained(cfg)
    assert reads == ["weights.pth"] and builds == ["cpu"]


@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
def test_a_start_reads_each_file_of_weights_once_and_builds_the_values_once(
    flags, reads, builds, run_tool, tiny_duke, tmp_path
):
    model = build_scratch_model(load_cfg(TOY), identities=4)
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    torch.save({"conv1.weight": torch.full((64, 3, 7, 7), 0.5)}, tmp_path / "imagenet.pth")
    builds.clear()
    done = run_tool(
        *("MODEL.WEIGHTS", str(tmp_path / "weights.pth"), "MODEL.BACKBONE.PRETRAIN", "True"),
        *("MODEL.BACKBONE.PRETRAIN_PATH", str(tmp_path / "imagenet.pth"), "MODEL.IGOAS.COMPILE", "False"),
        flags=flags,
    )
    assert done.returncode == 0, done.stderr
    expected = {"weights.pth"} if flags else {"weights.pth", "imagenet.pth"}
    assert sorted(name for name in reads if name in expected) == sorted(expected)
    assert builds == ["meta", "cpu"] and not read_ahead._kept
