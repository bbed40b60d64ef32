"""What a person sees of a run on a console that is no terminal, and what is in log.txt alone."""

import logging
import pickle
import re
from argparse import Namespace

import fastreid
import pytest
import torch
import torch.distributed as dist
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.engine import DefaultTrainer, default_setup
from fastreid.utils import comm
from fastreid.utils.collect_env import collect_env_info
from fastreid.utils.logger import log_every_n_seconds, setup_logger
from runs import start
from tiny_data import TinyReID
from torch import nn

from igoas_plugin.core.console_log import WIDTH, ConsoleFilter
from igoas_plugin.core.version import __version__
from igoas_plugin.engine.console import table_follows
from igoas_plugin.engine.distributed import distribute, serialize_to_tensor

GONE = (
    "No checkpoint found", "random seed", "CUDA_HOME", "pure compute time", "in csv format", "fastreid 1.3",
    "fastreid             1.3", "TypedStorage", "broadcast_buffers", "World size", "fastreid.",
)  # fmt: skip
DUMPS = (
    "Environment info:", "Command line arguments:", "Contents of args.config_file", "Running with full config:",
    "Model:\nBaseline(", "=> Loaded TinyReID", "Evaluation results in csv format", "Starting training at iteration 1 ",
    "Saving checkpoint to", "identities in", "  lr ",
)  # fmt: skip


@pytest.fixture
def run(baseline_cfg, tmp_path, capfd):
    """Returns a function that trains and evaluates, as fast-reid's own script does, and returns (console, stderr)."""
    baseline_cfg.OUTPUT_DIR = "run"
    config = tmp_path / "tiny.yml"
    config.write_text("# a comment of a user\n")

    def train(resume=False) -> tuple[list[str], str]:
        default_setup(baseline_cfg, Namespace(resume=resume, eval_only=False, config_file=str(config)))
        trainer = DefaultTrainer(baseline_cfg)
        trainer.resume_or_load(resume=resume)
        trainer.train()
        told = capfd.readouterr()
        return told.out.splitlines(), told.err

    return train


def test_a_training_tells_in_short_lines_what_it_does_and_what_came_of_it(run, baseline_cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    baseline_cfg.SEED, baseline_cfg.SOLVER.WARMUP_ITERS = 3, 0
    lines, errors = run()
    names = [re.split("  +", line)[0] for line in lines]
    assert names == [
        "versions", "device", "folder", "train set", "model", "test set",
        "epoch 1/2", "evaluated", "epoch 2/2", "evaluated",
        "Training is done", "epochs", "iterations", "duration", "speed", "best",
    ]  # fmt: skip
    assert len(lines) <= 20 and max(map(len, lines)) <= WIDTH and errors == ""
    told = dict(zip(names, lines, strict=True))  # the last of each name
    assert f"igoas_plugin {__version__}, fast-reid 1.4.0, PyTorch {torch.__version__}, Python 3." in told["versions"]
    assert re.fullmatch(r"device +CPU \(.+\), \d+ threads?", told["device"])
    assert told["folder"].endswith("run, seed 3") and told["model"].endswith("0.0 million parameters")
    assert told["train set"].endswith("TinyReID: 16 images of 4 identities in 2 cameras")
    assert told["test set"].endswith("TinyReID: 8 queries of 4 identities in 1 camera, gallery 16 of 4 in 2")
    assert re.fullmatch(
        r"evaluated +TinyReID: Rank-1 [\d.]+, mAP [\d.]+, Rank-5 [\d.]+, Rank-10 [\d.]+, mINP [\d.]+", told["evaluated"]
    )
    assert re.match(r"epoch 2/2  iter 4/4  loss [\d.]+  .*left 0:00:00", told["epoch 2/2"])
    assert [each for each in GONE if each in "\n".join(lines) + errors] == []
    log = (tmp_path / "run" / "log.txt").read_text()
    assert [each for each in DUMPS if each not in log] == [] and "# a comment of a user" in log
    assert log.count("random seed") == 0  # none is drawn before SEED
    assert re.search(r"^\[\d\d/\d\d \d\d:\d\d:\d\d\] fastreid\.utils\.events INFO: epoch 1/2 ", log, re.M)


def test_a_resumed_training_tells_from_where(run, baseline_cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run()
    baseline_cfg.SOLVER.MAX_EPOCH = 3
    lines, _ = run(resume=True)
    assert "resumed     run/model_final.pth, 4 of 6 iterations are done" in lines
    assert [line.split("  ")[0] for line in lines if line.startswith("epoch ")] == ["epoch 3/3"]


def test_metrics_are_not_told_twice_where_a_table_of_them_follows(baseline_cfg, capsys):
    trainer = start(baseline_cfg)
    capsys.readouterr()
    with table_follows():
        DefaultTrainer.test(baseline_cfg, trainer.model)
    assert "evaluated" not in capsys.readouterr().out
    DefaultTrainer.test(baseline_cfg, trainer.model)
    assert capsys.readouterr().out.count("evaluated   TinyReID: ") == 1


def test_warnings_errors_and_what_a_project_logs_are_shown(tmp_path, capsys):
    setup_logger(str(tmp_path))
    project, host = logging.getLogger("fastreid.project"), logging.getLogger("fastreid")
    project.info("of a project")
    host.info("by the name of the host")
    host.warning("careful")
    host.error("failed")
    log_every_n_seconds(logging.INFO, "now and then", name="fastreid.project_helper")
    assert capsys.readouterr().out.splitlines() == [
        "of a project", "by the name of the host", "WARNING: careful", "ERROR: failed", "now and then",
    ]  # fmt: skip


def test_a_data_set_that_overrides_what_fast_reid_logs_is_shown(baseline_cfg, capsys, monkeypatch):
    class Counted(TinyReID):
        def show_train(self):
            logging.getLogger("fastreid.data.datasets.mine").info(f"my {len(self.train)} images")

    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Counted", Counted)
    baseline_cfg.DATASETS.NAMES = ("Counted",)
    start(baseline_cfg)
    out = capsys.readouterr().out
    assert "\nmy 16 images\n" in out and "train set" not in out


def record_of(function: str, created: float) -> logging.LogRecord:
    """Returns a record as a function of fast-reid's evaluation makes it."""
    path = fastreid.__path__[0] + "/utils/logger.py"
    record = logging.LogRecord("fastreid.evaluation.evaluator", logging.INFO, path, 1, "text", (), None, function)
    record.created = created
    return record


def test_a_long_evaluation_is_told_every_five_minutes():
    shown, console = [], ConsoleFilter()
    assert not console.filter(record_of("inference_on_dataset", 0.0))
    for minute in range(12):
        if console.filter(record_of("log_every_n_seconds", 60.0 * minute)):
            shown.append(minute)
    assert shown == [5, 10]
    assert not console.filter(record_of("inference_on_dataset", 900.0))  # the next evaluation
    assert not console.filter(record_of("log_every_n_seconds", 960.0))


def test_the_environment_is_described_with_the_right_version_and_without_a_warning(capfd):
    assert re.search(r"^fastreid +1\.4\.0 @", collect_env_info(), re.M)
    assert fastreid.__version__ == "1.4.0" and "CUDA_HOME" not in capfd.readouterr().err


def test_processes_exchange_objects_and_share_a_model_without_a_warning(monkeypatch, recwarn):
    monkeypatch.setattr(dist, "get_backend", lambda group: "gloo")
    data = {"seed": 3, "names": ["a", "b"]}
    assert comm._serialize_to_tensor is serialize_to_tensor
    tensor = serialize_to_tensor(data, None)
    assert tensor.dtype == torch.uint8 and pickle.loads(tensor.numpy().tobytes()) == data
    monkeypatch.undo()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        distribute(nn.Linear(2, 2), [0], broadcast_buffers=False)
    finally:
        dist.destroy_process_group()
    texts = [str(warning.message) for warning in recwarn]
    assert [text for text in texts if "broadcast_buffers" in text or "TypedStorage" in text] == []
