"""Lays out a data set that you have as a folder, .zip or .rar as the plugin reads it; occluded-duke from DukeMTMC-reID.

python tools/prepare_data.py NAME --source PATH [--root DIR] [--link copy|hard|symlink]

Interrupted, it goes on where it was when the same command is given again.
"""

import argparse
import logging
import os

from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.datasets.prepare import LINKS, RECIPES, prepare


def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    logging.basicConfig(format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", choices=RECIPES, help=", ".join(RECIPES))
    parser.add_argument("--source", metavar="PATH", required=True, help="your copy, of any name; found at any depth")
    parser.add_argument(
        "--root",
        metavar="DIR",
        default=os.getenv("FASTREID_DATASETS", "datasets"),
        help="the folder that holds the data sets; default: the environment variable FASTREID_DATASETS, or datasets",
    )
    parser.add_argument("--link", choices=LINKS, default="copy", help="from a folder also hard links or symbolic links")
    args = parser.parse_args()
    with errors_in_one_line(interrupted="interrupted: the same command goes on from here"):
        print(prepare(args.name, args.source, args.root, args.link))


if __name__ == "__main__":
    run()
