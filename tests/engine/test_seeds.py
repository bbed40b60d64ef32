import random
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fastreid.engine import default_setup
from runs import logged, start

from igoas_plugin.engine.run_setup import run_seed


def drawn(cfg, **flags) -> tuple:
    default_setup(cfg, Namespace(config_file="", **flags))
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_one_seed_seeds_every_generator(baseline_cfg, raw_host):
    assert len(set(raw_host["seeds_of_two_runs_with_one_config"])) == 2
    assert drawn(baseline_cfg) == drawn(baseline_cfg)
    other = baseline_cfg.clone()
    other.SEED = 2
    assert not set(drawn(other)) & set(drawn(baseline_cfg))


def test_a_seed_that_is_not_given_is_drawn_written_down_and_taken_up_on_resume(baseline_cfg):
    baseline_cfg.SEED = -1
    first, second, resumed = (baseline_cfg.clone() for _ in range(3))
    numbers = drawn(first)
    written = yaml.safe_load((Path(baseline_cfg.OUTPUT_DIR) / "config.yaml").read_text())["SEED"]
    assert first.SEED == written >= 0
    assert drawn(resumed, resume=True) == numbers and resumed.SEED == first.SEED
    drawn(second, resume=False)
    assert second.SEED != first.SEED


@pytest.mark.parametrize("content", [b"", b"SEED: [", b"MODEL: {}", b"SEED: abc", b"SEED: 4294967296", b"SEED: 1\xff"])
def test_a_seed_that_a_damaged_config_does_not_hold_is_drawn_anew_with_a_line(baseline_cfg, host_log, content):
    baseline_cfg.SEED = -1
    config = Path(baseline_cfg.OUTPUT_DIR) / "config.yaml"
    config.parent.mkdir()
    config.write_bytes(content)
    assert 0 <= run_seed(baseline_cfg, Namespace(resume=True)) < 2**31
    assert [record.getMessage() for record in host_log.records] == [f"{config} holds no SEED: a new one is drawn"]


def test_a_frozen_config_stays_frozen(baseline_cfg):
    baseline_cfg.freeze()
    drawn(baseline_cfg)
    assert baseline_cfg.is_frozen()


def test_a_script_of_fast_reid_writes_the_registered_names_of_data_sets(baseline_cfg):
    baseline_cfg.DATASETS.NAMES, baseline_cfg.DATASETS.TESTS = ("tiny_reid",), ("Tiny-ReID",)
    baseline_cfg.freeze()
    drawn(baseline_cfg)
    assert baseline_cfg.DATASETS.NAMES == baseline_cfg.DATASETS.TESTS == ("TinyReID",)
    assert "tiny_reid" not in (Path(baseline_cfg.OUTPUT_DIR) / "config.yaml").read_text()


def test_an_evaluation_beside_weights_without_a_config_starts(baseline_cfg):
    output = Path(baseline_cfg.OUTPUT_DIR)
    output.mkdir()
    (output / "last_checkpoint").write_text("model_final.pth")
    drawn(baseline_cfg, eval_only=True)
    assert (output / "config.yaml").is_file()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_losses(igoas_cfg, tmp_path, workers):
    igoas_cfg.INPUT.FLIP.ENABLED = True
    igoas_cfg.DATALOADER.NUM_WORKERS = workers
    losses = []
    for run in ("a", "b"):
        cfg = igoas_cfg.clone()
        cfg.OUTPUT_DIR = str(tmp_path / run)
        start(cfg).train()
        losses.append([line["total_loss"] for line in logged(cfg)])
    assert losses[0] == losses[1] and len(losses[0]) == 2
