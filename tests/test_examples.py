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
from igoas_plugin.datasets.market_style import SUBSETS
from igoas_plugin.preflight import check_names, check_test_data, check_training_data

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
EXAMPLE = re.compile(r"""```python\n(.*?)```\s*\n    (python [^\n]* IMPORTS "\['(\w+)'\]"[^\n]*)\n""", re.S)
EXAMPLES = {name: (code, command) for code, command, name in EXAMPLE.findall(PAGE)}


def test_every_file_on_the_page_has_a_command_and_less_than_40_lines():
    assert list(EXAMPLES) == ["my_data", "my_market", "my_occlusion", "my_backbone", "my_head"]
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
    if name in ("my_data", "my_market"):
        cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = data
    if name == "my_data":
        for part, camera in (("train", 1), ("query", 0), ("gallery", 1)):
            names = [f"{identity}_{camera}_{shot}.png" for identity in range(4) for shot in "abc"]
            make_noise(data_root / "MyData" / part, names)
    if name == "my_market":
        as_market = [f"{person:04d}_c{camera}s1_{person:06d}_00.png" for person in (1, 2) for camera in (1, 2)]
        as_duke = [f"{person:04d}_c{camera}_f{person:07d}.png" for person in (3, 4) for camera in (1, 2)]
        for subset in SUBSETS:
            distractors = ["0000_c1s1_000001_00.png", "0000_c2_f0000001.png"] if subset == SUBSETS[2] else []
            names = [*as_market, *as_duke, "-1_c1s1_000001_00.png", *distractors]
            make_noise(data_root / "MyMarket" / subset, names)
        check_test_data(*data)
        assert check_training_data(cfg) == (4, 8)
        cfg.DATASETS.COMBINEALL = True  # query and gallery have their own classes, distractors none
        assert check_training_data(cfg) == (8, 24)
        cfg.DATASETS.COMBINEALL = False

    results = runs.start(cfg).train()
    assert 0 <= results["Rank-1"] <= 100 and 0 < results["mAP"] <= 100
    losses = [line for line in runs.logged(cfg) if "total_loss" in line]
    assert losses
    if name == "my_occlusion":
        assert 0 < losses[-1]["occlusion/share"] < 0.8
