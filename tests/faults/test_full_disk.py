"""A full or read-only disk gives one line; earlier files stay, and no partial file is left."""

import contextlib
import json
import logging
import os
import re
from pathlib import Path

import fastreid.engine.defaults
import numpy as np
import pytest
import tiny_data
import torch
from fastreid.config import get_cfg as host_cfg
from fastreid.engine.hooks import PeriodicWriter
from fastreid.engine.train_loop import TrainerBase
from fastreid.utils.events import JSONWriter, TensorboardXWriter
from fastreid.utils.file_io import PathManager
from fastreid.utils.logger import setup_logger
from matplotlib.figure import Figure
from PIL import Image
from runs import start, weights
from small_disk import fill, mounted
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from igoas_plugin.checkpoint.checkpoint_file import load_file
from igoas_plugin.core.errors import InputError, OutputError
from igoas_plugin.core.files import check_output, write_atomically
from igoas_plugin.datasets.drawn_folder import provide
from igoas_plugin.datasets.prepare import prepare
from igoas_plugin.engine.log_files import UNWRITABLE
from igoas_plugin.engine.metrics_file import logged_lines
from igoas_plugin.evaluation.results import save_results
from igoas_plugin.reports.comparison.training import write_seconds
from igoas_plugin.reports.figures.figure_file import save_figure
from igoas_plugin.reports.severity_curve import write_csv

MB = 10**6


@pytest.fixture
def disk(tmp_path):
    """Returns a disk with space for three checkpoints of 134 MB (ResNet-18): one is written beside two."""
    with mounted(tmp_path / "disk", "size=450m") as folder:
        yield folder


@pytest.fixture
def full_disk(tmp_path):
    with mounted(tmp_path / "disk", "size=1m") as folder:
        yield folder


@pytest.fixture
def cfg(baseline_cfg, disk):
    """Returns the config of a run of one epoch, which writes two checkpoints: the best and the final one."""
    baseline_cfg.OUTPUT_DIR = str(disk / "run")
    baseline_cfg.SOLVER.MAX_EPOCH, baseline_cfg.TEST.EVAL_PERIOD = 1, 0
    return baseline_cfg


@pytest.mark.fault
def test_a_checkpoint_that_does_not_fit_ends_the_training_and_the_earlier_ones_stay(cfg, disk):
    run = disk / "run"
    start(cfg).train()
    before = {name: (run / name).read_bytes() for name in ("model_best.pth", "model_final.pth", "last_checkpoint")}
    trained = weights(start(cfg, resume=True))
    cfg.SOLVER.MAX_EPOCH = 2
    trainer = start(cfg, resume=True)  # which writes its config
    ballast = fill(disk, leave=0)
    with pytest.raises(OutputError, match=rf"cannot write {run}/model_\w+.pth: No space left on device, [\d.]+ MB are"):
        trainer.train()
    assert {name: (run / name).read_bytes() for name in before} == before
    assert not list(run.glob("*.writing"))

    ballast.unlink()
    resumed = start(cfg, resume=True)
    assert resumed.start_epoch == 1
    assert all(torch.equal(each, trained[name]) for name, each in weights(resumed).items())
    resumed.train()
    assert load_file(str(run / "model_final.pth"))["epoch"] == 1


@pytest.mark.fault
def test_the_tool_says_it_in_one_line_and_exits_with_1(run_tool, tiny_duke, tmp_path):
    with mounted(tmp_path / "disk", "size=8m") as disk:
        done = run_tool("OUTPUT_DIR", str(disk / "run"))
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert re.fullmatch(
            rf"igoas_plugin \S+: cannot write {disk}/run/model_best.pth: No space left on device, [\d.]+ MB are free "
            rf"in {disk}/run: make room, or name another folder \(OUTPUT_DIR of a run, --output of a tool\)",
            last,
        )
        assert "Traceback" not in done.stdout + done.stderr + (disk / "run" / "log.txt").read_text()
        assert not [path.name for path in (disk / "run").iterdir() if path.suffix in (".pth", ".writing")]


class LoggingLoop(TrainerBase):
    """Loop of fast-reid that trains nothing and logs a lot; its disk is full for a while.

    Args:
        disk: it logs into ``run`` there.
    """

    def __init__(self, disk: Path):
        super().__init__()
        self.disk, run = disk, disk / "run"
        run.mkdir()
        self.logger = setup_logger(str(run), name="fastreid")
        writers = [JSONWriter(str(run / "metrics.json")), TensorboardXWriter(str(run))]
        self.register_hooks([PeriodicWriter(writers, period=1)])

    def run_step(self):
        if self.iter == 100:
            self.ballast = fill(self.disk, leave=0)
        if self.iter == 900:
            self.ballast.unlink()
        self.storage.put_scalar("total_loss", self.iter)
        self.logger.info(f"iteration {self.iter}: {'x' * 99}")


def iterations_in(path: Path) -> list[int]:
    """Returns the iterations of the whole lines of metrics.json."""
    iterations = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):
            iterations.append(json.loads(line)["iteration"])
    return iterations


@pytest.mark.fault
def test_logs_that_cannot_be_written_are_told_once_and_the_training_goes_on(tmp_path, capfd):
    with mounted(tmp_path / "disk", "size=2m") as disk:
        run = disk / "run"
        LoggingLoop(disk).train(0, 1, 1000)
        out, err = capfd.readouterr()
        told = [re.search(r"cannot write (\S+): No space left", line) for line in out.splitlines() if "goes on" in line]
        assert sorted(each[1] for each in told) == [str(run), str(run / "log.txt"), str(run / "metrics.json")]
        assert out.count("is written again; lines in between may be lost") == 3 and not UNWRITABLE
        assert "Traceback" not in out + err and "rror" not in err
        for found in (
            iterations_in(run / "metrics.json"),
            [event.step for path in run.glob("events.*") for event in EventFileLoader(str(path)).Load()],
            [int(number) for number in re.findall(r"iteration (\d+): x+$", (run / "log.txt").read_text(), re.M)],
        ):
            assert {*range(100), *range(905, 1000)} <= set(found) and len(set(found)) < 500
        assert [line["iteration"] for line in logged_lines(str(run))] == iterations_in(run / "metrics.json")


@pytest.mark.fault
def test_without_the_fix_a_full_disk_ends_the_training_at_a_log(tmp_path, monkeypatch):
    monkeypatch.setattr(JSONWriter, "write", JSONWriter.write.__wrapped__)
    with mounted(tmp_path / "disk", "size=2m") as disk:
        with pytest.raises(OSError, match="No space left on device"):
            LoggingLoop(disk).train(0, 1, 1000)


@pytest.mark.parametrize("file", ["log.txt", "metrics.json"])
def test_a_log_that_cannot_be_opened_stops_a_run_before_it_trains(cfg, disk, file):
    (disk / "run" / file).mkdir(parents=True)
    with pytest.raises(OutputError, match=f"cannot write {disk}/run/{file}: Is a directory"):
        start(cfg).train()


@pytest.mark.fault
def test_a_config_that_cannot_be_written_leaves_that_of_the_run_before(cfg, disk, monkeypatch):
    start(cfg)
    before = (disk / "run" / "config.yaml").read_bytes()
    cfg.SOLVER.MAX_EPOCH = 7
    ballast = fill(disk, leave=0)
    with pytest.raises(OutputError, match="cannot write .*/run/config.yaml: No space left"):
        start(cfg, resume=True)
    assert (disk / "run" / "config.yaml").read_bytes() == before

    ballast.unlink()
    monkeypatch.setattr(fastreid.engine.defaults, "PathManager", PathManager)  # without the fix
    monkeypatch.setattr(type(cfg), "dump", lambda self: "x" * 10 * MB)
    fill(disk, leave=MB)
    with pytest.raises(OSError, match="No space left"):
        start(cfg, resume=True)
    assert (disk / "run" / "config.yaml").read_bytes() != before


def test_both_of_fast_reids_ways_to_write_the_config_are_fixed(cfg, disk, monkeypatch):
    written = []
    monkeypatch.setattr(
        "igoas_plugin.engine.log_files.write_atomically", lambda path, write: written.append(os.path.basename(path))
    )
    start(cfg)  # NUM_CLASSES is counted: it is written twice
    assert written == ["config.yaml", "config.yaml"]


def results_cfg(folder: Path):
    cfg = host_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TESTS = str(folder), ("One",)
    return cfg


WRITERS = {
    "results.json": lambda path: save_results({"mAP": 1.0}, results_cfg(path.parent)),
    "page.html": lambda path: write_atomically(str(path), lambda file: file.write(b"page")),
    "curve.csv": lambda path: write_csv([], str(path)),
    "picture.png": lambda path: save_figure(Figure(), str(path)),
    "seconds.json": lambda path: write_seconds(str(path.parent), [1.0]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_no_file_of_the_plugin_is_torn_by_a_full_disk(name, full_disk):
    path = full_disk / name
    path.write_bytes(b"old")
    ballast = fill(full_disk, leave=0)
    with pytest.raises(OutputError, match=f"^cannot write {path}: No space left on device, 0.0 MB are free in "):
        WRITERS[name](path)
    assert sorted(os.listdir(full_disk)) == sorted([ballast.name, name]) and path.read_bytes() == b"old"
    ballast.unlink()
    WRITERS[name](path)
    assert path.read_bytes() != b"old"


def test_generated_images_that_do_not_fit_leave_nothing(full_disk):
    def noise(path):
        return Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8))

    with pytest.raises(OutputError, match=f"^Noise: cannot write {full_disk}/a/noise: No space .*FASTREID_DATASETS"):
        provide("Noise", str(full_disk / "a" / "noise"), 1, [f"part/{number}.png" for number in range(99)], noise)
    assert os.listdir(full_disk / "a") == []


def test_a_data_set_that_does_not_fit_leaves_nothing(tmp_path):
    tiny_data.make_tiny_market(tmp_path / "source")
    with mounted(tmp_path / "disk", "size=100k") as disk:
        with pytest.raises(
            OutputError, match=f"^cannot write {disk}/Market.*: No space .*: make room, or choose another"
        ):
            prepare("market-1501", str(tmp_path / "source"), str(disk))
        assert os.listdir(disk) == []


def test_a_read_only_file_system_is_told_before_a_run_starts(tmp_path):
    with mounted(tmp_path / "disk", "ro") as disk:
        for folder in (disk, disk / "new" / "run"):
            with pytest.raises(InputError, match=f"OUTPUT_DIR '{folder}' cannot be written"):
                check_output(str(folder))
        with pytest.raises(OutputError, match=f"cannot write {disk}/page.html: Read-only file system: name another"):
            write_atomically(str(disk / "page.html"), lambda file: file.write(b"page"))


@pytest.fixture(autouse=True)
def no_logs_kept():
    """Forgets the logs that a test could not write."""
    yield
    UNWRITABLE.clear()
    logging.getLogger("fastreid").handlers.clear()
