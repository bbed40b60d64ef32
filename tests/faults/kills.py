"""Kills a training at random moments, resumes it, and compares its end with that of a run that was left alone.

python tests/faults/kills.py --kills 20 --seed 1 [--folder FOLDER]
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
sys.path.insert(0, str(ROOT / "tests"))

SETTINGS = {
    "DATASETS.NAMES": "('OccludedDuke',)", "DATASETS.TESTS": "('OccludedDuke',)",
    "INPUT.SIZE_TRAIN": "[32,16]", "INPUT.SIZE_TEST": "[32,16]", "INPUT.REA.ENABLED": "True",
    "DATALOADER.NUM_WORKERS": "2", "SOLVER.IMS_PER_BATCH": "8", "TEST.IMS_PER_BATCH": "8", "SEED": "1",
    "SOLVER.CHECKPOINT_PERIOD": "1", "SOLVER.CHECKPOINT_KEEP": "3", "SOLVER.STEPS": "(2,4)", "SOLVER.WARMUP_ITERS": "3",
    "MODEL.IGOAS.FREEZE_EPOCHS": "1",
}  # fmt: skip


class Run:
    """A training in a folder, by tools/train_net.py.

    Args:
        folder: of the run, OUTPUT_DIR.
        data: FASTREID_DATASETS, with the tiny Occluded-Duke of the tests.
        epochs: of two steps each.
    """

    def __init__(self, folder: Path, data: Path, epochs: int):
        self.folder, self.epochs = folder, epochs
        settings = {**SETTINGS, "SOLVER.MAX_EPOCH": str(epochs), "OUTPUT_DIR": str(folder)}
        self.command = [sys.executable, str(ROOT / "tools/train_net.py"), "--config-file", "configs/Toy/igoas_R18.yml"]
        self.pairs = [word for pair in settings.items() for word in pair]
        self.environment = {**os.environ, "FASTREID_DATASETS": str(data), "PYTHONPATH": str(ROOT)}

    def start(self, resume: bool = False) -> subprocess.Popen:
        self.log = open(f"{self.folder}.log", "ab")
        flags = ["--resume"] if resume else []
        return subprocess.Popen(
            [*self.command, *flags, *self.pairs], cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log
        )

    def finish(self) -> None:
        """Trains to the end, or raises CalledProcessError with the log's last lines."""
        code = self.start(resume=any(self.folder.glob("last_checkpoint"))).wait()
        if code:
            raise subprocess.CalledProcessError(code, self.command, Path(f"{self.folder}.log").read_text()[-2000:])

    def being_written(self) -> bool:
        return self.folder.is_dir() and any(name.endswith(".writing") for name in os.listdir(self.folder))

    def epochs_logged(self) -> list[int]:
        """Iterations at which metrics.json tells of an evaluation."""
        lines = [json.loads(line) for line in (self.folder / "metrics.json").read_text().splitlines()]
        return [line["iteration"] for line in lines if "Rank-1" in line]


def kill_once(run: Run, rng: random.Random, seconds: float, while_writing: bool) -> str | None:
    """Starts or resumes the run and kills it; where it was hit, or None where it had come to its end before.

    Args:
        seconds: the run is killed up to this long after its start.
        while_writing: waits for a checkpoint that is being written instead, after a random while.
    """
    process = run.start(resume=any(run.folder.glob("last_checkpoint")))
    end = time.monotonic() + rng.uniform(0.3, 1) * seconds
    while process.poll() is None and (time.monotonic() < end or (while_writing and not run.being_written())):
        time.sleep(0.001)
    if process.poll() is not None:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, run.command)
        return None
    writing = run.being_written()
    process.send_signal(signal.SIGKILL)
    process.wait()
    return "while a file was written" if writing else "elsewhere"


def differences(first: Path, second: Path) -> list[str]:
    """What differs, bit by bit, between the final checkpoints of two runs: weights, optimiser, schedules, metric."""
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
    """A run that is left alone and one that is killed `kills` times: what was hit, and what differs at the end."""
    import tiny_data

    tiny_data.make_tiny_duke(folder / "data")
    alone, killed = (Run(folder / name, folder / "data", epochs) for name in ("alone", "killed"))
    began = time.monotonic()
    alone.finish()
    seconds, rng, hit = time.monotonic() - began, random.Random(seed), []
    while len(hit) < kills:
        where = kill_once(killed, rng, seconds, while_writing=len(hit) % 3 == 2)
        if where is None:
            break
        hit.append(where)
    killed.finish()
    return {
        "kills": len(hit),
        "of them while a file was written": hit.count("while a file was written"),
        "differences": differences(alone.folder, killed.folder),
        "epochs logged": killed.epochs_logged(),
        "seconds": round(time.monotonic() - began),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=40, help="of two steps each")
    parser.add_argument("--folder", help="where the runs and their logs are left; by default they are removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        chosen = Path(arguments.folder or temporary)
        chosen.mkdir(parents=True, exist_ok=True)
        told = kill_and_resume(chosen, arguments.kills, arguments.seed, arguments.epochs)
    for what, value in told.items():
        print(f"{what}: {value}")
    sys.exit(bool(told["differences"] or told["kills"] < arguments.kills))
