"""Faults of fast-reid without the plugin: files that it executes, downloads or does not check."""

import os
from pathlib import Path
from unittest import mock

import tiny_data
import torch
from fastreid.config import CfgNode
from fastreid.modeling.backbones import build_backbone
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.file_io import PathHandler, PathManager
from raw_host import fault

plain_open = open


class Asked(PathHandler):
    """Handler of addresses, as another library may register one, that keeps the paths it gets."""

    paths = []

    def _get_supported_prefixes(self):
        return ["https://"]

    def _get_local_path(self, path, **_):
        self.paths.append(path)
        return path

    def _open(self, path, *_, **__):
        self.paths.append(path)
        raise ConnectionError(path)


@fault
def config_with_a_chinese_comment():
    """Opens a config for reading as fast-reid's set-up of a run does, where the locale is ASCII."""
    Path("chinese.yml").write_text("# 行人重识别", encoding="utf-8")
    with mock.patch("builtins.open", open_in_ascii):
        with PathManager.open("chinese.yml", "r") as file:
            return file.read()


def open_in_ascii(file, mode="r", buffering=-1, encoding=None, *args, **kwargs):
    """Stands in for open() where the encoding of the locale is ASCII."""
    return plain_open(file, mode, buffering, encoding or (None if "b" in mode else "ascii"), *args, **kwargs)


@fault
def untrusted_configs():
    Path("executed.yml").write_text("SEED: !!python/object/apply:os.mkdir ['made_by_yaml']")
    CfgNode.load_yaml_with_base("executed.yml", allow_unsafe=True)
    Path("fetched.yml").write_text("_BASE_: https://example.org/base.yml")
    with mock.patch.object(PathManager, "_PATH_HANDLERS", {"https://": Asked()}):
        try:
            CfgNode.load_yaml_with_base("fetched.yml")
        except ConnectionError as error:
            asked = str(error)
    Path("loop.yml").write_text("_BASE_: loop.yml")
    try:
        CfgNode.load_yaml_with_base("loop.yml")
    except RecursionError as error:
        loop = type(error).__name__
    return {"executed": os.path.isdir("made_by_yaml"), "asked for": asked, "loop": loop}


@fault
def weights_from_an_address():
    with mock.patch.object(PathManager, "_PATH_HANDLERS", {"https://": Asked()}):
        try:
            Checkpointer(torch.nn.Linear(1, 1)).load("https://example.org/weights.pth")
        except AssertionError:
            return Asked.paths[-1]


@fault
def loads_that_ask_for_weights_alone():
    """Returns which loads of fast-reid pass weights_only, without which torch < 2.6 executes a pickle."""
    load, said = torch.load, {}

    def noting(name):
        return lambda *args, **options: said.update({name: "weights_only" in options}) or load(*args, **options)

    weights = {"conv1.weight": torch.ones(64, 3, 7, 7)}
    torch.save(weights, "trusted.pth")
    cfg = tiny_data.host_cfg()
    tiny_data.use_resnet(cfg)
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.BACKBONE.PRETRAIN_PATH = True, "trusted.pth"
    with mock.patch.object(torch, "load", noting("MODEL.BACKBONE.PRETRAIN_PATH")):
        build_backbone(cfg)
    torch.save({"model": torch.nn.Linear(1, 1).state_dict()}, "model.pth")
    with mock.patch.object(torch, "load", noting("MODEL.WEIGHTS")):
        Checkpointer(torch.nn.Linear(1, 1)).load("model.pth")
    return said


@fault
def a_checkpoint_with_a_flipped_byte():
    model = torch.nn.Linear(100, 1)
    torch.save({"model": model.state_dict()}, "flipped.pth")
    content = bytearray(Path("flipped.pth").read_bytes())
    content[content.index(model.weight.detach().numpy().tobytes()) + 3] ^= 1
    Path("flipped.pth").write_bytes(content)
    other = torch.nn.Linear(100, 1)
    Checkpointer(other).load("flipped.pth")
    return "loaded" if not torch.equal(other.weight, model.weight) else "as it was"
