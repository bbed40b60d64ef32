"""Lays out a data set, which you have as a folder, .zip or .rar, as the plugin reads it.

python tools/prepare_data.py NAME --source PATH [--root DIR] [--link copy|hard|symlink]

OccludedDuke is made from a copy of DukeMTMC-reID.

If it is interrupted, nothing half-made is left: run the same command again.
"""

import argparse
import logging
import os

from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.datasets.prepare import LINKS, RECIPES, prepare


@errors_in_one_line(interrupted="interrupted: run the same command again")
def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    logging.basicConfig(format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument(
        "--source", metavar="PATH", required=True, help="your copy: a folder or archive that holds it at any depth"
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        default=os.getenv("FASTREID_DATASETS", "datasets"),
        help="folder of the data sets; default: the environment variable FASTREID_DATASETS, or datasets",
    )
    parser.add_argument(
        "--link", choices=LINKS, default="copy", help="copy (default), or link to the images of a folder"
    )
    args = parser.parse_args()
    print(prepare(args.name, args.source, args.root, args.link))
