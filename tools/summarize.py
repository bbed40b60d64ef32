"""Prints one table of the metrics of several runs, and the paths of the last run's log, weights and events.

python tools/summarize.py OUTPUT_DIR [OUTPUT_DIR ...]
"""

import argparse
import os
import sys

from tool_arguments import parser_of, require_path


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("output_dirs", nargs="+", metavar="OUTPUT_DIR", help="folder of a run of tools/train_net.py")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    args = arguments(words)
    for path in args.output_dirs:
        results = path if path.endswith(".json") else os.path.join(path, "results.json")
        require_path(results, f"{os.path.dirname(results)} holds no finished run of tools/train_net.py")
    from igoas_plugin.cli.summarize import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
