import os
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from runs import start, stop_at, weights

from igoas_plugin.core.errors import InputError
from igoas_plugin.preflight import check_run

EPOCHS, STEPS = 4, 2  # STEPS of an epoch


@pytest.fixture
def cfg(baseline_cfg):
    baseline_cfg.SOLVER.CHECKPOINT_PERIOD, baseline_cfg.SOLVER.MAX_EPOCH = 1, EPOCHS
    return baseline_cfg


def files(cfg) -> set[str]:
    return {path.name for path in Path(cfg.OUTPUT_DIR).glob("*.pth")}


def stop_after(cfg, epochs):
    with pytest.raises(KeyboardInterrupt):
        stop_at(start(cfg), STEPS * epochs).train()


def test_as_many_periodic_checkpoints_are_kept_as_asked_for_beside_the_best_and_the_final_one(cfg):
    cfg.SOLVER.CHECKPOINT_KEEP = 2
    start(cfg).train()
    assert files(cfg) == {"model_0001.pth", "model_0002.pth", "model_best.pth", "model_final.pth"}


def test_all_are_kept_by_default(cfg):
    start(cfg).train()
    assert files(cfg) == {*(f"model_{epoch:04d}.pth" for epoch in range(3)), "model_best.pth", "model_final.pth"}


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [truncate, *(pytest.param(each, marks=pytest.mark.fault) for each in (empty, flip, Path.unlink))]
)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_resumed(cfg, host_log, damage):
    stop_after(cfg, 3)
    newest, before = Path(cfg.OUTPUT_DIR, "model_0002.pth"), Path(cfg.OUTPUT_DIR, "model_0001.pth")
    assert Path(cfg.OUTPUT_DIR, "last_checkpoint").read_text() == newest.name
    expected = torch.load(before, weights_only=True)["model"]
    damage(newest)
    check_run(cfg, Namespace(resume=True, eval_only=False, num_gpus=1, num_machines=1))
    resumed = start(cfg, resume=True)
    assert f"{newest} " in host_log.text and "the checkpoint before it is tried" in host_log.text
    assert resumed.start_epoch == 2
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())


@pytest.mark.fault
def test_where_no_checkpoint_can_be_read_the_resume_is_refused(cfg):
    stop_after(cfg, 2)
    for path in Path(cfg.OUTPUT_DIR).glob("*.pth"):
        truncate(path)
    with pytest.raises(InputError, match="no checkpoint in .* can be read: start anew without --resume"):
        start(cfg, resume=True)


def test_checkpoints_without_the_name_of_the_last_one_are_not_overwritten(cfg):
    stop_after(cfg, 2)
    Path(cfg.OUTPUT_DIR, "last_checkpoint").unlink()
    with pytest.raises(InputError, match="no last_checkpoint: write the name of the one to resume into .*model_0000"):
        check_run(cfg, Namespace(resume=True, eval_only=False, num_gpus=1, num_machines=1))


@pytest.mark.fault
def test_a_damaged_best_checkpoint_is_named_and_the_resumed_run_writes_a_new_one(cfg, host_log):
    stop_after(cfg, 3)
    best = Path(cfg.OUTPUT_DIR, "model_best.pth")
    truncate(best)
    start(cfg, resume=True).train()
    assert f"checkpoint {best} cannot be read" in host_log.text
    assert torch.load(best, weights_only=True)["metric"] > 0
