"""The files on docs/extending.md, each with the config of its command: they train and evaluate."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import runs
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from tiny_data import make_noise, tiny_settings

from igoas_plugin.config import load_cfg
from igoas_plugin.preflight import check_names

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
EXAMPLE = re.compile(r"""```python\n(.*?)```\s*\n    (python [^\n]* IMPORTS "\['(\w+)'\]"[^\n]*)\n""", re.S)
EXAMPLES = {name: (code, command) for code, command, name in EXAMPLE.findall(PAGE)}


def test_every_file_on_the_page_has_a_command_and_less_than_40_lines():
    assert list(EXAMPLES) == ["my_data", "my_occlusion", "my_backbone", "my_head"]
    assert PAGE.count("```python") == len(EXAMPLES)
    assert [name for name, (code, _) in EXAMPLES.items() if code.count("\n") >= 40] == []
    assert all(code.startswith(f'"""{name}.py: ') for name, (code, _) in EXAMPLES.items())


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_file_on_the_page_trains_and_evaluates(name, tmp_path, data_root, monkeypatch):
    code, command = EXAMPLES[name]
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    options = shlex.split(command.split("--config-file ")[1])
    cfg = load_cfg(str(ROOT / options[0]), options[1:])
    check_names(cfg)
    backbone, data = cfg.MODEL.BACKBONE.NAME, cfg.DATASETS.NAMES
    tiny_settings(cfg, tmp_path / "run")
    if name == "my_backbone":
        cfg.MODEL.BACKBONE.NAME = backbone
        assert BACKBONE_REGISTRY.get(backbone)(cfg)
    if name == "my_data":
        cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = data
        for part, camera in (("train", 1), ("query", 0), ("gallery", 1)):
            names = [f"{identity}_{camera}_{shot}.png" for identity in range(4) for shot in "abc"]
            make_noise(data_root / "MyData" / part, names)

    results = runs.start(cfg).train()
    assert 0 <= results["Rank-1"] <= 100 and 0 < results["mAP"] <= 100
    losses = [line for line in runs.logged(cfg) if "total_loss" in line]
    assert losses
    if name == "my_occlusion":
        assert 0 < losses[-1]["occlusion/share"] < 0.8
