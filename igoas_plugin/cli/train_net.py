"""Training or evaluation of a config, as tools/train_net.py."""

import contextlib
import logging
import os

from fastreid.engine import default_argument_parser, default_setup, launch
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import end_failed, end_interrupted, handle_ctrl_c, log_to_console
from igoas_plugin.core.console_log import row
from igoas_plugin.core.errors import PluginError, failing_run
from igoas_plugin.datasets.published import warn_once
from igoas_plugin.engine.console import table_follows
from igoas_plugin.engine.distributed import under_torchrun
from igoas_plugin.engine.run_lock import run_lock
from igoas_plugin.engine.trainer import Trainer
from igoas_plugin.evaluation.results import save_results, summarize
from igoas_plugin.preflight import check_run


def main(args) -> None:
    """Runs one process of a training or an evaluation.

    Args:
        args: command line of tools/train_net.py, whose options are those of fast-reid's default_argument_parser().
    """
    cfg = load_cfg(args.config_file, args.opts)
    cfg.freeze()
    default_setup(cfg, args)

    if args.eval_only:
        log = logging.getLogger("fastreid.igoas_plugin")
        if cfg.MODEL.WEIGHTS:
            log.info(row("weights", cfg.MODEL.WEIGHTS))
        else:
            log.warning("MODEL.WEIGHTS is empty: an untrained model is evaluated")
        cfg.defrost()
        cfg.MODEL.BACKBONE.PRETRAIN = False
        model = Trainer.build_model(cfg)
        Checkpointer(model).load(cfg.MODEL.WEIGHTS)
        # of several sets, which take longer, the metrics of each are shown at once
        with failing_run(), table_follows() if len(cfg.DATASETS.TESTS) == 1 else contextlib.nullcontext():
            results = Trainer.test(cfg, model)
    else:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        with failing_run():
            results = trainer.train()

    if comm.is_main_process():
        print(summarize([save_results(results, cfg, args.eval_only)]))


def run(args) -> None:
    """Runs a command line and ends the process with its exit code.

    Args:
        args: as of main().
    """
    log_to_console()  # until fast-reid sets up its logger
    started = False
    try:
        handle_ctrl_c()
        cfg = load_cfg(args.config_file, args.opts)
        check_run(cfg, args)
        warn_once.cache_clear()  # warnings about the data are repeated in the log of the run
        with run_lock(cfg.OUTPUT_DIR, args.machine_rank):
            started = True
            launch(main, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(args,))
    except PluginError as error:
        # every process of torchrun finds the same mistake before the start, and only a later error may be its own
        end_failed(error, silent=not started and under_torchrun() and os.environ["LOCAL_RANK"] != "0")
    except KeyboardInterrupt:
        end_interrupted()


if __name__ == "__main__":  # compare.py and random_splits.py start trainings by python -m
    run(default_argument_parser().parse_args())
