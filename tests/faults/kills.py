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
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import igoas_plugin  # noqa: E402, F401  (first: the host, which tiny_data imports, is mended by it)

# isort: split
from tiny_data import make_tiny_duke  # noqa: E402

STEPS = 2  # of an epoch
MOMENTS = ("training", "writing", "start")
SETTINGS = {
    "DATASETS.NAMES": "('OccludedDuke',)", "DATASETS.TESTS": "('OccludedDuke',)",
    "INPUT.SIZE_TRAIN": "[32,16]", "INPUT.SIZE_TEST": "[32,16]", "INPUT.REA.ENABLED": "True",
    "DATALOADER.NUM_WORKERS": "2", "SOLVER.IMS_PER_BATCH": "8", "TEST.IMS_PER_BATCH": "8", "SEED": "1",
    "SOLVER.CHECKPOINT_PERIOD": "1", "SOLVER.CHECKPOINT_KEEP": "3", "SOLVER.STEPS": "(2,4)", "SOLVER.WARMUP_ITERS": "3",
    "MODEL.IGOAS.FREEZE_EPOCHS": "1", "TEST.EVAL_PERIOD": "1",
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
        self.logged_before = self.log.tell()
        flags = ["--resume"] if resume else []
        return subprocess.Popen(
            [*self.command, *flags, *self.pairs], cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log
        )

    def finish(self) -> None:
        """Trains to the end, or raises CalledProcessError with the log's last lines."""
        code = self.start(resume=any(self.folder.glob("last_checkpoint"))).wait()
        if code:
            raise subprocess.CalledProcessError(code, self.command, Path(f"{self.folder}.log").read_text()[-2000:])

    def trains(self) -> bool:
        """Whether the process that was started last has come to its first step."""
        with open(self.log.name, "rb") as log:
            log.seek(self.logged_before)
            return b"Starting training" in log.read()

    def writes(self, process: subprocess.Popen) -> bool:
        """Whether a file is being written by this process; those of killed ones may lie there still."""
        ending = f".{process.pid}.writing"
        return self.folder.is_dir() and any(name.endswith(ending) for name in os.listdir(self.folder))

    def iterations_logged(self) -> list[int]:
        """The iterations of which metrics.json has a line."""
        return [json.loads(line)["iteration"] for line in (self.folder / "metrics.json").read_text().splitlines()]


def kill_once(run: Run, rng: random.Random, epoch: float, moment: str) -> str | None:
    """Starts or resumes the run and kills it; where it was hit, or None where it had come to its end before.

    Args:
        epoch: seconds that an epoch takes.
        moment: "start", in the first seconds of the process; "training", within three epochs from its first step on; or
            "writing", there too, but when the next file is being written.
    """
    process = run.start(resume=any(run.folder.glob("last_checkpoint")))
    while process.poll() is None and moment != "start" and not run.trains():
        time.sleep(0.01)
    end = time.monotonic() + rng.uniform(0, 3 * epoch if moment != "start" else 6)
    while process.poll() is None and (time.monotonic() < end or (moment == "writing" and not run.writes(process))):
        time.sleep(0.001)
    if process.poll() is not None:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, run.command)
        return None
    hit = "writing" if run.writes(process) else moment
    process.send_signal(signal.SIGKILL)
    process.wait()
    return hit


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
    make_tiny_duke(folder / "data")
    expected = [STEPS * (epoch + 1) - 1 for epoch in range(epochs)]
    alone, killed = (Run(folder / name, folder / "data", epochs) for name in ("alone", "killed"))
    began, rng, hit = time.monotonic(), random.Random(seed), []
    process = alone.start()
    while process.poll() is None and not alone.trains():
        time.sleep(0.01)
    trains = time.monotonic()
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, alone.command)
    epoch = (time.monotonic() - trains) / epochs
    while len(hit) < kills:
        where = kill_once(killed, rng, epoch, MOMENTS[len(hit) % len(MOMENTS)])
        if where is None:
            break
        hit.append(where)
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
    parser.add_argument("--epochs", type=int, default=60, help="of two steps each")
    parser.add_argument("--folder", help="where the runs and their logs are left; by default they are removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        chosen = Path(arguments.folder or temporary)
        chosen.mkdir(parents=True, exist_ok=True)
        told = kill_and_resume(chosen, arguments.kills, arguments.seed, arguments.epochs)
    for what, value in told.items():
        print(f"{what}: {value}")
    sys.exit(bool(told["differences"] or not told["epochs logged once"] or told["kills"] < arguments.kills))
