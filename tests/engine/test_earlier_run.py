"""A training that starts anew in a used OUTPUT_DIR moves the files of the earlier run; resume and evaluation do not."""

import logging
import os
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fastreid.engine import DefaultTrainer, default_setup, launch
from fastreid.utils import comm
from fastreid.utils.logger import _cached_log_stream, setup_logger
from in_process import TINY_NETWORK
from runs import start, stop_at, weights

from igoas_plugin.engine.run_setup import move_earlier_run, moved_path

NEW = {"resume": False, "eval_only": False}


@pytest.fixture
def used(baseline_cfg) -> Path:
    """Returns the folder of a finished training, with a file of the user."""
    baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.SOLVER.CHECKPOINT_PERIOD = 2, 1
    start(baseline_cfg).train()
    folder = Path(baseline_cfg.OUTPUT_DIR)
    (folder / "notes.txt").write_text("mine")
    close_log()
    return folder


def close_log() -> None:
    """Closes the log file that fast-reid keeps open until the process ends."""
    logging.getLogger("fastreid").handlers = [
        handler for handler in logging.getLogger("fastreid").handlers if not hasattr(handler.stream, "name")
    ]
    setup_logger.cache_clear()
    _cached_log_stream.cache_clear()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_new_training_moves_the_earlier_run_and_never_resumes_it(baseline_cfg, used, host_log):
    before = contents(used)
    assert {"config.yaml", "last_checkpoint", "log.txt", "metrics.json", "model_0000.pth", "model_best.pth"} <= set(
        before
    )
    trainer = stop_at(start(baseline_cfg), 0)
    assert (
        f"Files of an earlier run were moved to {used / 'previous'}; to continue a run, start it with --resume"
        in (used / "log.txt").read_text()
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()  # stops before its first checkpoint
    moved = contents(used / "previous")
    assert moved == {name: content for name, content in before.items() if name != "notes.txt"}
    assert not list(used.glob("*.pth")) and (used / "notes.txt").read_text() == "mine"
    close_log()
    assert start(baseline_cfg, resume=True).start_epoch == 0
    assert "Nothing to resume" in host_log.text
    close_log()
    start(baseline_cfg)
    assert "log.txt" in contents(used / "previous-2") and contents(used / "previous") == moved


def test_a_resume_and_an_evaluation_move_nothing(baseline_cfg, used):
    before = contents(used)
    assert start(baseline_cfg, resume=True).start_epoch == 2
    default_setup(baseline_cfg.clone(), Namespace(resume=False, eval_only=True, config_file=""))
    default_setup(baseline_cfg.clone(), Namespace(config_file=""))  # a script without these options
    assert before.keys() <= contents(used).keys() and not (used / "previous").exists()


def test_weights_in_the_folder_are_loaded_from_their_new_place(baseline_cfg, used):
    expected = torch.load(used / "model_final.pth", weights_only=True)["model"]
    baseline_cfg.MODEL.WEIGHTS = os.path.relpath(used / "model_final.pth")
    baseline_cfg.freeze()
    trainer = start(baseline_cfg)
    assert trainer.cfg.MODEL.WEIGHTS == str(used / "previous" / "model_final.pth") and trainer.start_epoch == 0
    assert all(torch.equal(value, expected[name]) for name, value in weights(trainer).items())


def test_a_script_without_default_setup_moves_the_checkpoints(baseline_cfg, used):
    before = {name for name in contents(used) if name.startswith(("model_", "last_checkpoint"))}
    trainer = DefaultTrainer(baseline_cfg)
    trainer.resume_or_load(resume=False)
    with pytest.raises(KeyboardInterrupt):
        stop_at(trainer, 0).train()
    assert set(contents(used / "previous")) == before and not list(used.glob("model_*"))


def test_a_path_elsewhere_and_no_path_stay_as_they_are(tmp_path):
    (tmp_path / "model_final.pth").touch()
    (tmp_path / "weights.pth").touch()
    previous = move_earlier_run(str(tmp_path))
    assert previous == str(tmp_path / "previous") and move_earlier_run(str(tmp_path)) is None
    assert move_earlier_run(str(tmp_path / "absent")) is None
    for path in ("", "model_final.pth", str(tmp_path / "weights.pth"), str(tmp_path / "other" / "model_final.pth")):
        assert moved_path(path, str(tmp_path), previous) == path


def set_up(cfg, folder: str) -> None:
    default_setup(cfg, Namespace(**NEW, config_file=""))
    Path(folder, f"rank{comm.get_rank()}").write_text(cfg.MODEL.WEIGHTS)


@pytest.mark.slow
def test_of_two_processes_one_moves_and_both_know_the_new_place(baseline_cfg, tmp_path):
    run = Path(baseline_cfg.OUTPUT_DIR)
    run.mkdir()
    for name in ("model_final.pth", "log.txt", "log.txt.rank1"):
        (run / name).write_text("earlier")
    baseline_cfg.MODEL.WEIGHTS = str(run / "model_final.pth")
    launch(set_up, 2, args=(baseline_cfg, str(tmp_path)))
    assert {(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)} == {str(run / "previous" / "model_final.pth")}
    assert set(contents(run / "previous").values()) == {b"earlier"} and len(contents(run / "previous")) == 3
    assert "World size: 2" in (run / "log.txt.rank1").read_text() and not (run / "previous-2").exists()


@pytest.mark.slow
def test_under_torchrun_the_files_are_moved_once(start_tool, tiny_duke, tmp_path, monkeypatch):
    tests = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IGOAS_PLUGIN_IMPORT", "tiny_data")  # registers TinyBackbone
    run = tmp_path / "run"
    run.mkdir()
    earlier = ("config.yaml", "last_checkpoint", "log.txt", "log.txt.rank1", "metrics.json", "model_final.pth")
    for name in earlier:
        (run / name).write_text("earlier")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = start_tool(*TINY_NETWORK, launcher=torchrun)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert contents(run / "previous") == dict.fromkeys(earlier, b"earlier") and not (run / "previous-2").exists()
    assert f"Files of an earlier run were moved to {run / 'previous'};" in (run / "log.txt").read_text()
    assert "World size: 2" in (run / "log.txt.rank1").read_text()
    assert torch.load(run / "model_final.pth", weights_only=True)["epoch"] == 0
