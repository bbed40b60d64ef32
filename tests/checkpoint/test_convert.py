"""Conversion to .safetensors and back, and .safetensors in every key that names a file of weights."""

import json
import os
import random
import runpy
import sys
from pathlib import Path

import pytest
import torch
from backbones import SMALLEST
from fastreid.modeling.backbones import build_backbone
from fastreid.utils.checkpoint import Checkpointer
from safetensors import safe_open
from safetensors.torch import save_file
from saved_models import saved_igoas
from torch import nn

import igoas_plugin
from igoas_plugin.checkpoint import imagenet
from igoas_plugin.checkpoint.checkpoint_file import as_safetensors, load_file, read_safetensors
from igoas_plugin.checkpoint.convert import convert_checkpoint, convert_pretrained
from igoas_plugin.core import files
from igoas_plugin.core.errors import InputError, OutputError
from igoas_plugin.inference.trained import build_trained

ROOT = Path(__file__).parents[2]
SETTINGS = json.dumps({"SEED": 3, "NAME": "größer"})


def weights() -> dict:
    """Returns tensors of every kind in a checkpoint: in one flat buffer, shared, transposed, empty, scalar."""
    torch.manual_seed(0)
    flat = torch.randn(50)
    return {
        "first": flat[:20].view(4, 5), "second": flat[20:], "again": flat[20:], "overlapping": flat[10:30],
        "transposed": torch.randn(3, 4).T,
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "expanded": torch.ones(1).expand(7), "counter": torch.tensor(7), "empty": torch.zeros(0, 3),
        "half": torch.randn(3).half(), "bfloat16": torch.randn(3).bfloat16(), "double": torch.randn(3).double(),
        "flags": torch.tensor([True, False]), "parameter": nn.Parameter(torch.randn(3)),
    }  # fmt: skip


def assert_same(one: dict, other: dict):
    assert {*one} == {*other}
    for name in one:
        torch.testing.assert_close(one[name].detach(), other[name], rtol=0, atol=0)
        assert one[name].dtype == other[name].dtype


@pytest.mark.parametrize("settings", [None, SETTINGS])
def test_a_training_s_checkpoint_and_back_has_the_same_tensors_and_settings(settings, tmp_path):
    saved = {"model": weights(), "optimizer": {"state": {}}, "epoch": 3}
    torch.save(saved | ({} if settings is None else {"settings": settings}), tmp_path / "a.pth")
    number = convert_checkpoint(str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors"))
    assert number == len(saved["model"])
    assert convert_checkpoint(str(tmp_path / "b.safetensors"), str(tmp_path / "c.pth")) == number
    for name in ("b.safetensors", "c.pth"):
        read = load_file(str(tmp_path / name))
        assert_same(saved["model"], read["model"])
        assert read.get("settings") == settings and {*read} <= {"model", "settings"}
    assert sorted(os.listdir(tmp_path)) == ["a.pth", "b.safetensors", "c.pth"]


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_the_state_dict_of_any_model_is_converted(key, prefix, tmp_path):
    state = {
        f"{prefix}{name}": torch.full((2,), value) for name, value in {"conv1.weight": 1.0, "fc.bias": 2.0}.items()
    }
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / "a.pth")
    assert convert_checkpoint(str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors")) == 2
    read = read_safetensors(str(tmp_path / "b.safetensors"))["model"]
    assert {name: tensor.tolist() for name, tensor in read.items()} == {"conv1.weight": [1, 1], "fc.bias": [2, 2]}


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_copy_in_the_same_format_has_the_weights_alone(ending, tmp_path):
    torch.save({"model": {"a": torch.ones(2)}, "optimizer": {"state": {}}}, tmp_path / "a.pth")
    (tmp_path / "a.safetensors").write_bytes(as_safetensors({"a": torch.ones(2)}))
    convert_checkpoint(str(tmp_path / f"a.{ending}"), str(tmp_path / f"b.{ending}"))
    assert load_file(str(tmp_path / f"b.{ending}"))["model"]["a"].tolist() == [1, 1]
    assert {*load_file(str(tmp_path / f"b.{ending}"))} == {"model"}


def test_the_file_is_one_that_any_program_reads(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(as_safetensors(weights(), SETTINGS))
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert {name: file.get_tensor(name).shape for name in file.keys()} == {
            name: each.shape for name, each in weights().items()
        }
        assert file.metadata().keys() == {"format", "settings", "crc32"} and file.metadata()["settings"] == SETTINGS


def test_a_file_of_any_program_is_read(tmp_path):
    save_file({"a": torch.arange(3)}, tmp_path / "a.safetensors")
    read = read_safetensors(str(tmp_path / "a.safetensors"))
    assert read["model"]["a"].tolist() == [0, 1, 2] and {*read} == {"model"}


def test_a_model_evaluates_and_is_tuned_from_safetensors_as_from_pth(tmp_path):
    cfg = saved_igoas(tmp_path)
    other = cfg.clone()
    other.MODEL.WEIGHTS = str(tmp_path / "weights.safetensors")
    convert_checkpoint(cfg.MODEL.WEIGHTS, other.MODEL.WEIGHTS)
    images = {"images": 255 * torch.rand(2, 3, *cfg.INPUT.SIZE_TEST)}
    with torch.no_grad():
        assert torch.equal(build_trained(cfg)(images), build_trained(other)(images))


def test_resuming_from_safetensors_is_refused(tmp_path):
    model = nn.Linear(1, 1)
    (tmp_path / "a.safetensors").write_bytes(as_safetensors(model.state_dict()))
    (tmp_path / "last_checkpoint").write_text("a.safetensors")
    trainer = Checkpointer(model, str(tmp_path), optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(
        InputError, match="--resume needs the .pth of a training, and .*a.safetensors holds weights only"
    ):
        trainer.resume_or_load("", resume=True)
    trainer.resume_or_load(str(tmp_path / "a.safetensors"), resume=False)


def test_the_safetensors_of_every_builder_are_tried():
    assert {*SMALLEST, "build_vit_backbone"} == {*imagenet.DEPTHS}


@pytest.mark.parametrize("name, depth", [*SMALLEST.items(), ("build_vit_backbone", "small")])
def test_every_builder_starts_from_safetensors(name, depth, tmp_path):
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH = name, depth
    cfg.MODEL.BACKBONE.PRETRAIN = False
    source = build_backbone(cfg)
    prefix = "module.encoder." if "resnext" in name else ""  # fast-reid expects this prefix
    state = {prefix + key: value for key, value in source.state_dict().items()}
    (tmp_path / "a.safetensors").write_bytes(as_safetensors(state))
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.BACKBONE.PRETRAIN_PATH = True, str(tmp_path / "a.safetensors")
    built = build_backbone(cfg)
    assert all(torch.equal(one, other) for one, other in zip(source.parameters(), built.parameters(), strict=True))


def test_imagenet_weights_are_converted_from_and_to_safetensors(tmp_path):
    from torchvision.models import resnet18

    model = resnet18(weights=None)
    save_file(model.state_dict(), tmp_path / "published.safetensors")
    made = convert_pretrained(str(tmp_path / "published.safetensors"), str(tmp_path / "made.safetensors"))
    assert made.depth == "18x"
    read = read_safetensors(str(tmp_path / "made.safetensors"))["model"]
    assert len(read) == made.tensors and torch.equal(read["conv1.weight"], model.conv1.weight)


# Refusals


@pytest.mark.parametrize("source, target, message", [
    ("a.pth", "a.safetensors", "a.safetensors exists: remove it or name another file"),
    ("a.pth", "list.pth/b.safetensors", "the folder of OUT .*/list.pth' cannot be written"),
    ("absent.safetensors", "b.pth", "absent.safetensors does not exist"),
    ("empty.safetensors", "b.pth", "empty.safetensors cannot be read"),
    ("pickle.safetensors", "b.pth", "pickle.safetensors cannot be read .*: it is damaged or no .safetensors"),
    ("folder.safetensors", "b.pth", "folder.safetensors cannot be read"),
    ("list.pth", "b.safetensors", "list.pth holds no weights by name; save the state"),
    ("disguised.pth", "b.safetensors", "disguised.pth cannot be read"),
])  # fmt: skip
def test_what_cannot_be_converted_is_one_line_and_writes_nothing(
    source, target, message, tmp_path, monkeypatch, capsys
):
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "a.pth")
    torch.save([1], tmp_path / "list.pth")
    for name in ("a.safetensors", "disguised.pth"):
        (tmp_path / name).write_bytes(as_safetensors({"a": torch.ones(1)}))
    (tmp_path / "pickle.safetensors").write_bytes((tmp_path / "a.pth").read_bytes())
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "folder.safetensors").mkdir()
    before = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", str(tmp_path / source), str(tmp_path / target)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "tools" / "convert_checkpoint.py"), run_name="__main__")
    [line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    with pytest.raises(InputError, match=message):
        raise InputError(line)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("target", ["b.safetensors", "b.pth"])
def test_a_full_disk_leaves_no_half_of_a_file(target, tmp_path, monkeypatch):
    source = tmp_path / ("a.pth" if target == "b.safetensors" else "a.safetensors")
    source.write_bytes(as_safetensors(weights())) if target == "b.pth" else torch.save({"model": weights()}, source)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match="cannot write .*: No space left on device"):
        convert_checkpoint(str(source), str(tmp_path / target))
    assert os.listdir(tmp_path) == [source.name]


@pytest.mark.fault
def test_a_flipped_byte_of_safetensors_is_refused_or_changes_nothing(tmp_path):
    """Tries 700 random flips in the header and in the values."""
    state, path, generator = weights(), tmp_path / "a.safetensors", random.Random(0)
    whole, refused = as_safetensors(state, SETTINGS), 0
    for _ in range(700):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            read = read_safetensors(str(path))
            assert_same(state, read["model"])
            assert read["settings"] == SETTINGS
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 600  # the padding of the header and the name of the format have no checksum


@pytest.mark.fault
@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_safetensors_that_are_cut_off_are_refused(length, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(as_safetensors(weights())[:length])
    with pytest.raises(InputError, match="a.safetensors cannot be read"):
        load_file(str(tmp_path / "a.safetensors"))
