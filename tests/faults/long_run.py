"""Trains or evaluates many times in one process, and prints its memory and open files as JSON.

python tests/faults/long_run.py train FOLDER STEPS EVERY WORKERS
python tests/faults/long_run.py evaluate FOLDER TIMES EVERY WORKERS

A line has [steps or evaluations done, resident memory in MB, open files, child processes]. FOLDER gets the toy data
and the run.
"""

import gc
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
os.environ["FASTREID_DATASETS"] = str(Path(sys.argv[2]) / "datasets")

sys.path.insert(0, str(ROOT / "tests"))
import igoas_plugin  # noqa: E402, F401  (first: it patches fast-reid)

# isort: split
import tiny_data  # noqa: E402
from fastreid.engine import DefaultTrainer, default_setup  # noqa: E402
from fastreid.engine.train_loop import HookBase  # noqa: E402

from igoas_plugin.config import load_cfg  # noqa: E402


def state() -> tuple[float, int, int]:
    """Returns resident memory in MB, open files and child processes of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return int(status["VmRSS"].split()[0]) / 1024, len(os.listdir("/proc/self/fd")), len(children)


class Watch(HookBase):
    def __init__(self, every: int):
        self.every = every

    def after_step(self):
        if (self.trainer.iter + 1) % self.every == 0:
            tell(self.trainer.iter + 1)


def tell(done: int) -> None:
    gc.collect()  # cycles that wait for the collector are no leak
    print(json.dumps([done, *state()]), flush=True)


def config(folder: str, steps: int, workers: str):
    """Returns configs/Toy/igoas_R18.yml with TinyBackbone, small images and batches of half the size."""
    options = {
        "MODEL.HEADS.EMBEDDING_DIM": "64", "SOLVER.IMS_PER_BATCH": "8",
        "INPUT.SIZE_TRAIN": "[32,16]", "INPUT.SIZE_TEST": "[32,16]",
        "SOLVER.MAX_EPOCH": str(max(steps // 64, 1)), "DATALOADER.NUM_WORKERS": workers, "TEST.EVAL_PERIOD": "0",
        "SOLVER.CHECKPOINT_PERIOD": "1000", "OUTPUT_DIR": str(Path(folder) / f"run{workers}"), "MODEL.DEVICE": "cpu",
    }  # fmt: skip
    cfg = load_cfg(str(ROOT / "configs/Toy/igoas_R18.yml"), [word for pair in options.items() for word in pair])
    tiny_data.use_tiny_backbone(cfg)
    return cfg


def main(command: str, folder: str, steps: str, every: str, workers: str) -> None:
    cfg = config(folder, int(steps), workers)
    default_setup(cfg, None)
    if command == "train":
        trainer = DefaultTrainer(cfg)
        trainer.register_hooks([Watch(int(every))])
        trainer.train()
        return
    cfg.MODEL.HEADS.NUM_CLASSES = 1
    model = DefaultTrainer.build_model(cfg)
    for done in range(1, int(steps) + 1):
        DefaultTrainer.test(cfg, model)
        if done % int(every) == 0:
            tell(done)


if __name__ == "__main__":
    main(*sys.argv[1:])
