"""tools/train_net.py as a user runs it: a whole run, and every mistake a user can make."""

import json
import re

import pytest
import torch
import yaml


def test_a_run_ends_with_the_table_and_the_files(run_tool, tiny_duke, tmp_path):
    done = run_tool()
    assert done.returncode == 0, done.stderr[-2000:]
    table = done.stdout[done.stdout.rindex("| run") :]
    results = json.loads((tmp_path / "run" / "results.json").read_text())["OccludedDuke"]
    assert f"{results['Rank-1']:.1f}" in table and f"{results['mAP']:.1f}" in table
    for kind in ("log", "metrics", "weights", "best weights", "tensorboard"):
        path = re.search(rf"^{kind} +(\S+)$", table, re.M)[1]
        assert (tmp_path / "run" / path.split("/")[-1]).exists()
    evaluated = run_tool("MODEL.WEIGHTS", str(tmp_path / "run" / "model_final.pth"), flags=["--eval-only"])
    assert json.loads((tmp_path / "run" / "results.json").read_text())["OccludedDuke"] == pytest.approx(results)
    assert evaluated.returncode == 0


def bad_config(tmp_path, text):
    path = tmp_path / f"bad{len(list(tmp_path.glob('bad*')))}.yml"
    path.write_text(text)
    return str(path)


def mistakes(tmp_path):
    """(what is given, what the one line says)"""
    other = tmp_path / "other.pth"
    torch.save({"model": {"heads.weight": torch.zeros(4, 512)}}, other)
    return {
        "config file missing": ({"config": "absent.yml"}, (), "absent.yml does not exist"),
        "unknown key in a file": (
            {"config": bad_config(tmp_path, "SOLVER: {BASE_RL: 1.0}")}, (),
            "unknown key SOLVER.BASE_RL; the nearest known key is SOLVER.BASE_LR",
        ),
        "not YAML": ({"config": bad_config(tmp_path, "SOLVER: [")}, (), r"bad\d.yml cannot be read"),
        "base missing": ({"config": bad_config(tmp_path, "_BASE_: nowhere.yml")}, (), "a _BASE_ that does not exist"),
        "unknown key": ({}, ("MODEL.IGOAS.STEMM", "host"), "nearest known key is MODEL.IGOAS.STEM"),
        "wrong type": ({}, ("SOLVER.MAX_EPOCH", "many"), "config key: SOLVER.MAX_EPOCH"),
        "schedule out of range": ({}, ("MODEL.OCCLUSION.AREA_START", "1.5"), r"must stay in \(0, 1\), got 1.5"),
        "unknown schedule": ({}, ("MODEL.OCCLUSION.SCHEDULE", "fast"), "must be released or paper, got fast"),
        "batch too large": ({}, ("SOLVER.IMS_PER_BATCH", "64"), "IMS_PER_BATCH is 64 but .* has only 16 images"),
        "batch not divisible": (
            {"flags": ["--num-gpus", "2"]}, ("SOLVER.IMS_PER_BATCH", "7"), "IMS_PER_BATCH is 7, .* over 2 processes",
        ),
        "unknown data set": ({}, ("DATASETS.NAMES", "('Ducks',)"), "DATASETS.NAMES: Ducks is not registered; known: "),
        "data set missing": (
            {}, ("DATASETS.NAMES", "('Market1501',)"), "Market1501.*not found.*FASTREID_DATASETS.*README",
        ),
        "resume with a path": ({"flags": ["--resume", "logs/model.pth"]}, (), "--resume takes no path"),
        "checkpoint missing": ({}, ("MODEL.WEIGHTS", "absent.pth"), "absent.pth does not exist"),
        "checkpoint of another model": (
            {}, ("MODEL.WEIGHTS", str(other)), "other.pth does not fit the model: backbone.conv1.weight is missing",
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    "mistake",
    [
        "config file missing", "unknown key in a file", "not YAML", "base missing", "unknown key", "wrong type",
        "schedule out of range", "unknown schedule", "batch too large", "batch not divisible", "unknown data set",
        "data set missing", "resume with a path", "checkpoint missing", "checkpoint of another model",
    ],
)  # fmt: skip
def test_a_mistake_ends_in_one_line_and_code_2_and_touches_nothing(run_tool, tiny_duke, tmp_path, mistake):
    (tmp_path / "run").mkdir()
    kept = {"config.yaml": "SEED: 5", "model_final.pth": "weights", "results.json": "{}"}
    for name, text in kept.items():
        (tmp_path / "run" / name).write_text(text)
    given, options, message = mistakes(tmp_path)[mistake]
    done = run_tool(*options, **given)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert re.search(message, lines[-1]), lines
    assert "Traceback" not in done.stderr and len([line for line in lines if line.startswith("igoas_plugin")]) == 1
    assert {path.name: path.read_text() for path in (tmp_path / "run").iterdir()} == kept


def test_resume_of_a_finished_run_says_so_and_evaluates(run_tool, tiny_duke):
    first = run_tool()
    again = run_tool(flags=["--resume"])
    assert again.returncode == 0, again.stderr
    assert "nothing is trained" in again.stdout
    assert again.stdout.splitlines()[-8:-6] == first.stdout.splitlines()[-8:-6]


HOST_SCRIPT = """
import igoas_plugin
from fastreid.config import get_cfg
from fastreid.engine import DefaultTrainer, default_argument_parser, default_setup, launch
from fastreid.utils.checkpoint import Checkpointer


def setup(args):
    cfg = get_cfg()
    igoas_plugin.add_igoas_config(cfg)
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def main(args):
    cfg = setup(args)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    launch(main, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(args,))
"""


def test_the_host_s_own_script_with_two_lines_added_gives_the_same_losses(run_tool, tiny_duke, tmp_path):
    losses = []
    for tool in ("tools/train_net.py", str(tmp_path / "host_script.py")):
        (tmp_path / "host_script.py").write_text(HOST_SCRIPT)
        done = run_tool("OUTPUT_DIR", str(tmp_path / f"run{len(losses)}"), tool=tool)
        assert done.returncode == 0, done.stderr[-2000:]
        lines = (tmp_path / f"run{len(losses)}" / "metrics.json").read_text().splitlines()
        losses.append([json.loads(line)["total_loss"] for line in lines])
    assert losses[0] == losses[1] and len(losses[0]) == 1


def test_the_config_of_a_run_holds_what_was_trained(run_tool, tiny_duke, tmp_path):
    run_tool("SEED", "-1")
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["MODEL"]["HEADS"]["NUM_CLASSES"] == 4 and written["SEED"] >= 0
