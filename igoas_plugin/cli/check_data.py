"""Check of the data sets against the published counts, as tools/check_data.py."""

import argparse
import logging
import os
import sys
import warnings

from fastreid.data.datasets import DATASET_REGISTRY

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.core.errors import require_choice
from igoas_plugin.core.spelling import spelled
from igoas_plugin.datasets.data_report import KNOWN, report, table_of


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/check_data.py.
    """
    logging.basicConfig(format="%(message)s")
    warnings.filterwarnings("ignore", "The current data structure is deprecated")  # a warning of fast-reid
    cfg = load_cfg(args.config_file, args.opts)
    if args.config_file and not args.names:
        args.names = list(dict.fromkeys([*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS]))
    known = sorted(DATASET_REGISTRY._obj_map)
    args.names = list(dict.fromkeys(spelled("NAME", name, known) for name in args.names))
    for name in args.names:
        require_choice("a data set", name, known, registered=True)
    root = os.getenv("FASTREID_DATASETS", "datasets")
    reports = [report(name, root, args.decode, cfg.TEST.CAMERA_RULE) for name in args.names or KNOWN]
    print(table_of(reports))
    for each in reports if args.names else ():
        if each.why and not each.folder:
            print(f"{each.name}: {each.why}")
    wrong = [each for each in reports if not each.sound and (each.folder or args.names)]
    sys.exit(1 if wrong else 0)
