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


@pytest.fixture
def used(cfg):
    """The folder of a training that has ended."""
    cfg.SOLVER.MAX_EPOCH = 3
    start(cfg).train()
    cfg.SOLVER.MAX_EPOCH = EPOCHS
    return Path(cfg.OUTPUT_DIR)


def test_a_training_that_starts_anew_in_a_used_folder_never_resumes_what_is_there(cfg, used, host_log):
    content = {path.name: path.read_bytes() for path in used.glob("*.pth")}
    assert set(content) == {"model_0000.pth", "model_0001.pth", "model_best.pth", "model_final.pth"}
    with pytest.raises(KeyboardInterrupt):
        stop_at(start(cfg), 0).train()  # before its first checkpoint
    assert "has checkpoints of an earlier training (model_0000.pth, model_0001.pth, model_best.pth" in host_log.text
    assert {path.name: path.read_bytes() for path in used.glob("*.pth")} == content
    check_run(cfg, Namespace(resume=True, eval_only=False, num_gpus=1, num_machines=1))
    assert start(cfg, resume=True).start_epoch == 0
    assert "Nothing to resume" in host_log.text


@pytest.mark.fault
def test_what_a_training_has_replaced_is_its_own_and_the_rest_is_left_alone(cfg, used):
    cfg.SOLVER.CHECKPOINT_KEEP, cfg.TEST.EVAL_PERIOD = 1, 0
    foreign = (used / "model_best.pth").read_bytes()
    stop_after(cfg, 1)
    assert set((used / "earlier_checkpoints.txt").read_text().split()) == {
        "model_0001.pth", "model_best.pth", "model_final.pth"
    }  # fmt: skip
    resumed = start(cfg, resume=True)
    assert resumed.start_epoch == 1
    with pytest.raises(KeyboardInterrupt):
        stop_at(resumed, STEPS * 3).train()
    assert files(cfg) == {"model_0002.pth", "model_best.pth", "model_final.pth"}
    truncate(used / "model_0002.pth")
    with pytest.raises(InputError, match="no checkpoint in .* can be read"):
        start(cfg, resume=True)
    assert (used / "model_best.pth").read_bytes() == foreign


@pytest.mark.fault
def test_the_best_of_an_earlier_training_is_not_the_one_to_beat(cfg, used):
    best = torch.load(used / "model_best.pth", weights_only=True)
    torch.save({**best, "metric": 101.0}, used / "model_best.pth")
    cfg.TEST.EVAL_PERIOD = 2
    stop_after(cfg, 1)
    start(cfg, resume=True).train()
    assert torch.load(used / "model_best.pth", weights_only=True)["metric"] <= 100
    assert not (used / "earlier_checkpoints.txt").exists()


def test_checkpoints_without_the_name_of_the_last_one_are_not_overwritten(cfg, used):
    (used / "last_checkpoint").unlink()
    with pytest.raises(InputError, match="no last_checkpoint: write the name of the one to resume into .*model_final"):
        check_run(cfg, Namespace(resume=True, eval_only=False, num_gpus=1, num_machines=1))


@pytest.mark.fault
def test_a_folder_in_place_of_the_list_of_earlier_checkpoints_is_one_line(cfg, used):
    (used / "earlier_checkpoints.txt").mkdir()
    with pytest.raises(InputError, match="earlier_checkpoints.txt cannot be read: Is a directory: remove it"):
        check_run(cfg, Namespace(resume=True, eval_only=False, num_gpus=1, num_machines=1))


@pytest.mark.fault
def test_a_damaged_best_checkpoint_is_named_and_the_resumed_run_writes_a_new_one(cfg, host_log):
    stop_after(cfg, 3)
    best = Path(cfg.OUTPUT_DIR, "model_best.pth")
    truncate(best)
    start(cfg, resume=True).train()
    assert f"checkpoint {best} cannot be read" in host_log.text
    assert torch.load(best, weights_only=True)["metric"] > 0
