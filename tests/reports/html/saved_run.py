"""Folder of a run as tools/train_net.py writes it."""

import json
from pathlib import Path

import torch
from fastreid.modeling import build_model

from igoas_plugin.evaluation.results import METRICS

MARKUP = '0_0_"><script>window.hurt=1<&script><img src=x onerror=hurt=1>.png'
NO_TEXT = b"1_0_\xff\n.png"
COMMAND = "python tools/report.py 'a & b <i>'"


def save_run(cfg, folder: Path) -> Path:
    """Writes the folder of a run, with weights that cannot be read."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "model_final.pth").touch()
    (folder / "results.json").write_text(json.dumps({"TinyReID": dict.fromkeys(METRICS, 12.0)}))
    return folder


def save_weights(cfg, path: Path) -> None:
    """Writes random weights."""
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, path)
