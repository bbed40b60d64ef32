"""Trains and tests several configs over several seeds, and writes one table and plots of them.

python tools/compare.py CONFIG [CONFIG ...] [--seeds 3] [--output DIR] [--dry-run] [KEY VALUE ...]

DIR gets results.md, results.csv, bars.png, cmc.png, training.png, and a folder for each run. The same command again
continues stopped runs and skips finished ones. Two such commands at once share the runs. A failed run does not stop the
others: the table names it with the last line that it printed, and the exit code is 1.
"""

import argparse
import sys

from tool_arguments import is_config, parser_of, require_path


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line; `configs` and `opts` (KEY VALUE ...) may come in any order."""
    parser = parser_of(__doc__)
    parser.add_argument("words", nargs="+", metavar="CONFIG or KEY VALUE", help="configs end in .yml or .yaml")
    parser.add_argument("--seeds", type=int, metavar="N", default=3, help="runs of each config (default: 3)")
    parser.add_argument(
        "--output", metavar="DIR", default="logs/compare", help="folder of the comparison (default: logs/compare)"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the runs and estimate their time, train nothing")
    args = parser.parse_intermixed_args(words)
    args.configs = [word for word in args.words if is_config(word)]
    args.opts = [word for word in args.words if word not in args.configs]
    if not args.configs or args.seeds < 1:
        parser.error("give at least one config file and one seed")
    return args


def main(words: list[str]) -> None:
    args = arguments(words)
    for config in args.configs:
        require_path(config, "name a YAML file", kind="config file")
    from igoas_plugin.cli.compare import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
