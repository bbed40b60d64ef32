"""Kills a training at random points, resumes it, and compares its result with that of an undisturbed run.

python tests/faults/kills.py --kills 20 --seed 1 [--folder FOLDER]

A point is a number of events (see dying_run.py) and not of seconds, so the kills are the same on any machine.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
DYING_RUN = Path(__file__).with_name("dying_run.py")
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import igoas_plugin  # noqa: E402, F401  (first: it patches fast-reid, which tiny_data imports)

# isort: split
from tiny_data import make_tiny_duke  # noqa: E402

STEPS = 2  # of an epoch
MOMENTS = ("training", "writing", "start")
EPOCHS = 3  # most epochs that a run trains before it is killed
SETTINGS = {
    "DATASETS.NAMES": "('OccludedDuke',)", "DATASETS.TESTS": "('OccludedDuke',)",
    "INPUT.SIZE_TRAIN": "[32,16]", "INPUT.SIZE_TEST": "[32,16]", "INPUT.REA.ENABLED": "True",
    "DATALOADER.NUM_WORKERS": "2", "SOLVER.IMS_PER_BATCH": "8", "TEST.IMS_PER_BATCH": "8", "SEED": "1",
    "SOLVER.CHECKPOINT_PERIOD": "1", "SOLVER.CHECKPOINT_KEEP": "3", "SOLVER.STEPS": "(2,4)", "SOLVER.WARMUP_ITERS": "3",
    "MODEL.IGOAS.FREEZE_EPOCHS": "1", "TEST.EVAL_PERIOD": "1",
}  # fmt: skip


class Run:
    """Training in a folder by tools/train_net.py.

    Args:
        folder: OUTPUT_DIR of the run.
        data: FASTREID_DATASETS with the tiny Occluded-Duke of the tests.
        epochs: number of epochs of two steps each.
    """

    def __init__(self, folder: Path, data: Path, epochs: int):
        self.folder, self.epochs = folder, epochs
        settings = {**SETTINGS, "SOLVER.MAX_EPOCH": str(epochs), "OUTPUT_DIR": str(folder)}
        self.words = ["--config-file", str(ROOT / "configs/Toy/igoas_R18.yml")]
        self.pairs = [word for pair in settings.items() for word in pair]
        self.environment = {**os.environ, "FASTREID_DATASETS": str(data), "PYTHONPATH": str(ROOT)}
        self.counted = Path(f"{folder}.json")

    def start(self, point: str = "training", count: int = 0) -> int:
        """Starts or resumes the training, which kills itself at a point of dying_run.py; returns its exit code."""
        flags = ["--resume"] if any(self.folder.glob("last_checkpoint")) else []
        command = [sys.executable, str(DYING_RUN), point, str(count), str(self.counted)]
        with open(f"{self.folder}.log", "ab") as log:
            return subprocess.run(
                [*command, *self.words, *flags, *self.pairs], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            ).returncode

    def finish(self) -> dict[str, int]:
        """Trains to the end and returns the number of events; raises RuntimeError with the last lines of the log."""
        if code := self.start():
            raise RuntimeError(f"exit code {code}: {Path(f'{self.folder}.log').read_text()[-2000:]}")
        return json.loads(self.counted.read_text())

    def iterations_logged(self) -> list[int]:
        """Returns the iterations that have a line in metrics.json."""
        return [json.loads(line)["iteration"] for line in (self.folder / "metrics.json").read_text().splitlines()]


def kill_once(run: Run, rng: random.Random, events: dict[str, int], moment: str) -> bool:
    """Starts or resumes the run until it is killed; returns whether it was killed before its end.

    Args:
        events: number of events of a whole run, by moment.
        moment: one of MOMENTS.
    """
    last = events[moment] if moment == "start" else events[moment] * EPOCHS // run.epochs
    code = run.start(moment, rng.randint(1, max(last, 1)))
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"exit code {code}: {Path(f'{run.folder}.log').read_text()[-2000:]}")
    return code != 0


def differences(first: Path, second: Path) -> list[str]:
    """Returns the names of what differs between the final checkpoints of two runs, compared bit by bit."""
    one, other = (torch.load(folder / "model_final.pth", weights_only=False) for folder in (first, second))
    return sorted(compare(one, other, ""))


def compare(one, other, where: str):
    if type(one) is not type(other):
        yield where
    elif isinstance(one, torch.Tensor):
        if not torch.equal(one, other):
            yield where
    elif isinstance(one, dict):
        for key in one.keys() | other.keys():
            yield from compare(one.get(key), other.get(key), f"{where}.{key}")
    elif isinstance(one, (list, tuple)) and len(one) == len(other):
        for at, pair in enumerate(zip(one, other, strict=True)):
            yield from compare(*pair, f"{where}[{at}]")
    elif one != other:
        yield where


def kill_and_resume(folder: Path, kills: int, seed: int, epochs: int) -> dict[str, object]:
    """Trains one run undisturbed and kills another one `kills` times; returns the moments and the differences."""
    make_tiny_duke(folder / "data")
    expected = [STEPS * (epoch + 1) - 1 for epoch in range(epochs)]
    alone, killed = (Run(folder / name, folder / "data", epochs) for name in ("alone", "killed"))
    began, rng, hit = time.monotonic(), random.Random(seed), []
    events = alone.finish()
    while len(hit) < kills and kill_once(killed, rng, events, moment := MOMENTS[len(hit) % len(MOMENTS)]):
        hit.append(moment)
    killed.finish()
    return {
        "kills": len(hit),
        **{f"while {moment}": hit.count(moment) for moment in MOMENTS},
        "differences": differences(alone.folder, killed.folder),
        "epochs logged once": killed.iterations_logged() == alone.iterations_logged() == expected,
        "seconds": round(time.monotonic() - began),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, help=f"of two steps each; by default {EPOCHS} for each kill")
    parser.add_argument("--folder", help="where the runs and their logs are left; by default they are removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        chosen = Path(arguments.folder or temporary)
        chosen.mkdir(parents=True, exist_ok=True)
        told = kill_and_resume(chosen, arguments.kills, arguments.seed, arguments.epochs or EPOCHS * arguments.kills)
    for what, value in told.items():
        print(f"{what}: {value}")
    sys.exit(bool(told["differences"] or not told["epochs logged once"] or told["kills"] < arguments.kills))
