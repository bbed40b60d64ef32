"""Run of several processes that tests break: python broken_ranks.py FOLDER WHAT PROCESSES."""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import igoas_plugin  # first: it patches fast-reid
from igoas_plugin.core.errors import PluginError
from igoas_plugin.engine import distributed

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_data  # noqa: E402
from fastreid.engine import DefaultTrainer, launch  # noqa: E402
from fastreid.engine.train_loop import HookBase  # noqa: E402
from fastreid.evaluation import ReidEvaluator  # noqa: E402
from fastreid.utils import comm  # noqa: E402
from runs import start  # noqa: E402

EVALUATE = ReidEvaluator.evaluate
if "SECONDS_TO_WAIT" in os.environ:
    distributed.COLLECTIVE_TIMEOUT = timedelta(seconds=float(os.environ["SECONDS_TO_WAIT"]))


def note_process(folder: str) -> None:
    """Writes a file that tells the test that this process is at work."""
    path = Path(folder, f"rank{comm.get_rank()}")
    if not path.exists():
        path.with_suffix(".new").write_text(str(os.getpid()))
        path.with_suffix(".new").rename(path)


class Break(HookBase):
    def __init__(self, folder: str, what: str):
        self.folder, self.what = folder, what

    def after_step(self):
        if self.what == "raise" and comm.get_rank() == 1:
            raise ZeroDivisionError("a bug")
        note_process(self.folder)


def rank_for_long(evaluator):
    """Replaces ReidEvaluator.evaluate: rank 0, which ranks, takes twice as long as the timeout of a collective."""
    results = EVALUATE(evaluator)
    if comm.is_main_process():
        time.sleep(2 * distributed.COLLECTIVE_TIMEOUT.total_seconds())
    return results


def run(cfg, folder: str, what: str) -> None:
    trainer = start(cfg)
    if what.startswith("rank"):
        ReidEvaluator.evaluate = rank_for_long
        if what == "rank unwaited":
            distributed.RANKING_GROUP = None
        note_process(folder)
        DefaultTrainer.test(cfg, trainer.model)
        return comm.synchronize()
    while what == "evaluate":
        DefaultTrainer.test(cfg, trainer.model)
        note_process(folder)
    trainer.register_hooks([Break(folder, what)])
    trainer.train()


if __name__ == "__main__":
    folder, what, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    cfg = igoas_plugin.get_cfg()
    tiny_data.tiny_settings(cfg, os.path.join(folder, "run"))
    cfg.SOLVER.MAX_EPOCH, cfg.TEST.EVAL_PERIOD, cfg.DATALOADER.NUM_WORKERS = 100_000, 0, 1
    try:
        launch(run, processes, args=(cfg, folder, what))
    except PluginError as error:
        print(f"said in one line: {error}", file=sys.stderr)
        sys.exit(1)
