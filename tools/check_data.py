"""Prints which data sets are there, where they lie and how many images they have, against the published counts.

python tools/check_data.py [NAME ...] [--decode] [--config-file FILE] [KEY VALUE ...]

With a config the data sets are those in its DATASETS.NAMES and DATASETS.TESTS, unless names are given. IMPORTS names
the modules of your own data sets.

The exit code is 1 if a named data set is missing, or if one that is there differs from what was published or has files
that cannot be read.
"""

import argparse
import sys

from tool_arguments import parser_of, require_config, without_pairs


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="data set (default: all known published ones)")
    parser.add_argument("--config-file", default="", metavar="FILE", help="check the data sets of this config")
    parser.add_argument("--decode", action="store_true", help="open every image, find files that are there twice")
    words, opts = without_pairs(words)
    args = parser.parse_args(words)
    args.opts = opts
    return args


def main(words: list[str]) -> None:
    args = arguments(words)
    if args.config_file:
        require_config(args.config_file)
    from igoas_plugin.cli.check_data import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
