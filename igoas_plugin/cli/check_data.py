"""Prints which data sets are there, where they lie and how many images they have, against the published counts.

python tools/check_data.py [NAME ...] [--decode] [--config-file FILE] [KEY VALUE ...]

With a config the data sets are those in its DATASETS.NAMES and DATASETS.TESTS, unless names are given. IMPORTS names
the modules of your own data sets.

The exit code is 1 if a named data set is missing, or if one that is there differs from what was published or has files
that cannot be read.
"""

import argparse
import logging
import os
import sys
import warnings

from fastreid.data.datasets import DATASET_REGISTRY

from igoas_plugin.config import load_cfg, without_pairs
from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.core.errors import require_choice
from igoas_plugin.core.spelling import spelled
from igoas_plugin.datasets.data_report import KNOWN, report, table_of


@errors_in_one_line()
def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    logging.basicConfig(format="%(message)s")
    warnings.filterwarnings("ignore", "The current data structure is deprecated")  # a warning of fast-reid
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="registered name; default: all known published data sets"
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="check the data sets of this config")
    parser.add_argument("--decode", action="store_true", help="open every image, find files that are there twice")
    words, opts = without_pairs(sys.argv[1:])
    args = parser.parse_args(words)
    cfg = load_cfg(args.config_file, opts)
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
