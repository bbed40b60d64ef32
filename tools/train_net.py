"""Trains or evaluates any config with the host's DefaultTrainer; it has the host's command line.

python tools/train_net.py --config-file FILE [--resume] [--eval-only] [--num-gpus N] [KEY VALUE ...]
"""

import logging
import os
import sys

import igoas_plugin  # first: mends the host, also in the processes that are started from here

# isort: split
from fastreid.engine import DefaultTrainer, default_argument_parser, default_setup, launch
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer
from torch.multiprocessing import ProcessRaisedException

from igoas_plugin.check import check_run
from igoas_plugin.command_line import end_interrupted
from igoas_plugin.config import load_cfg
from igoas_plugin.datasets.published import warn_once
from igoas_plugin.errors import InputError, LostProcess, raised_elsewhere
from igoas_plugin.host.distributed import under_torchrun
from igoas_plugin.results import save_results, summarize
from igoas_plugin.run_lock import run_lock


def main(args):
    cfg = load_cfg(args.config_file, args.opts)
    cfg.freeze()
    default_setup(cfg, args)

    if args.eval_only:
        if not cfg.MODEL.WEIGHTS:
            logging.getLogger("fastreid").warning("MODEL.WEIGHTS is empty: an untrained model is evaluated")
        cfg.defrost()
        cfg.MODEL.BACKBONE.PRETRAIN = False
        model = DefaultTrainer.build_model(cfg)
        Checkpointer(model).load(cfg.MODEL.WEIGHTS)
        results = DefaultTrainer.test(cfg, model)
    else:
        trainer = DefaultTrainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        results = trainer.train()

    if comm.is_main_process():
        print(summarize([save_results(results, cfg, args.eval_only)]))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")  # until the host sets up its logger
    logging.getLogger("fastreid").setLevel(logging.INFO)
    args = default_argument_parser().parse_args()
    started = False
    try:
        cfg = load_cfg(args.config_file, args.opts)
        check_run(cfg, args)
        warn_once.cache_clear()  # what differs in the data is said again, into the log of the run
        with run_lock(cfg.OUTPUT_DIR, args.machine_rank):
            started = True
            launch(main, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(args,))
    except (InputError, LostProcess, ProcessRaisedException) as raised:
        error = raised_elsewhere(str(raised)) or raised
        if not isinstance(error, InputError | LostProcess):
            raise
        # before the start every process of torchrun finds the same; after it, one of them may be alone with it
        if started or not under_torchrun() or os.environ["LOCAL_RANK"] == "0":
            print(f"igoas_plugin {igoas_plugin.__version__}: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        end_interrupted()
