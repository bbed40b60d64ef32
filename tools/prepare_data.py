"""Lays out a data set, which you have as a folder, .zip or .rar, as the plugin reads it.

python tools/prepare_data.py NAME --source PATH [--root DIR] [--link copy|hard|symlink]

OccludedDuke is made from a copy of DukeMTMC-reID.

If it is interrupted, nothing half-made is left: run the same command again.
"""

import argparse
import os
import sys

from tool_arguments import parser_of, require_path

NAMES = ("OccludedDuke", "OccludedREID", "PDukeMTMC", "PETHZ", "PartialREID", "PartialiLIDS", "Market1501")


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(NAMES)}; in any case, with dashes or without")
    parser.add_argument(
        "--source", metavar="PATH", required=True, help="your copy: a folder or archive that holds it at any depth"
    )
    parser.add_argument(
        "--root", metavar="DIR", default=os.getenv("FASTREID_DATASETS", "datasets"),
        help="folder of the data sets; default: the environment variable FASTREID_DATASETS, or datasets",
    )  # fmt: skip
    parser.add_argument(
        "--link", choices=("copy", "hard", "symlink"), default="copy",
        help="copy (default), or link to the images of a folder",
    )  # fmt: skip
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    args = arguments(words)
    require_path(args.source, "give --source the folder or archive that you have")
    from igoas_plugin.cli.prepare_data import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
