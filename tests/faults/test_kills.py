import os
import signal
import subprocess
import sys

import pytest
import torch
from kills import DYING_RUN, differences, kill_and_resume
from runs import logged, start

from igoas_plugin.config import load_cfg


def test_a_run_that_is_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(
    tool_command, tiny_duke, tmp_path
):
    settings = {
        "MODEL.BACKBONE.NAME": "build_shufflenetv2_backbone", "MODEL.BACKBONE.DEPTH": "0.5x",
        "MODEL.BACKBONE.FEAT_DIM": "1024", "MODEL.HEADS.EMBEDDING_DIM": "16", "MODEL.DEVICE": "cpu", "SEED": "1",
        "SOLVER.MAX_EPOCH": "3", "SOLVER.CHECKPOINT_PERIOD": "1", "TEST.EVAL_PERIOD": "0",
    }  # fmt: skip
    words = tool_command(*(word for pair in settings.items() for word in pair))[1:]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # the order of sums depends on it
    command = [sys.executable, DYING_RUN, "model_0001.pth", "3", tmp_path / "counted", *words]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    run, alone = tmp_path / "run", tmp_path / "alone"
    assert list(run.glob("model_0001.pth.*.writing")) and not (run / "model_0001.pth").exists()

    cfg = load_cfg(words[1], words[2:])
    resumed = start(cfg, resume=True)
    assert resumed.start_epoch == 1
    resumed.train()
    assert not list(run.glob("*.writing"))
    cfg.defrost()
    cfg.OUTPUT_DIR = str(alone)
    start(cfg).train()
    assert differences(run, alone) == []
    ends = [line["iteration"] for line in logged(cfg)]
    cfg.OUTPUT_DIR = str(run)
    assert [line["iteration"] for line in logged(cfg)] == ends


@pytest.mark.fault
def test_a_run_that_is_killed_three_times_ends_as_the_one_that_was_left_alone(tmp_path):
    told = kill_and_resume(tmp_path, kills=3, seed=0, epochs=9)
    assert [told["kills"], told["while training"], told["while writing"], told["while start"]] == [3, 1, 1, 1]
    assert told["differences"] == []
    assert told["epochs logged once"]
