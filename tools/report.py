"""Evaluates a run again and writes one HTML page about it, which needs no network and no other file.

python tools/report.py RUN_DIR [--output FILE.html] [--queries N] [KEY VALUE ...]

RUN_DIR is the OUTPUT_DIR of tools/train_net.py. The tool takes its config.yaml and its weights, and the test sets of
DATASETS.TESTS. The page shows configuration, counts of the data sets, metrics beside published ones, CMC, the severity
curve of an occlusion if it was measured, the worst and best queries with rank lists and activation maps, and the AP of
every identity, camera and query.
"""

import argparse
import os
import sys

from tool_arguments import parser_of, require_path, require_weights


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="folder of the run")
    parser.add_argument("opts", nargs="*", default=[], metavar="KEY VALUE", help="override its config.yaml")
    parser.add_argument("--output", metavar="FILE.html", help="path of the page (default: RUN_DIR/report.html)")
    parser.add_argument(
        "--queries", type=int, metavar="N",
        help="show pictures of the N worst, N best and N random queries of each test set (default: 20 divided by the "
        "number of test sets, at least 4: the page then has about 5 MB)",
    )  # fmt: skip
    args = parser.parse_intermixed_args(words)
    if args.queries is not None and args.queries < 0:
        parser.error("--queries must not be negative")
    return args


def main(words: list[str]) -> None:
    args = arguments(words)
    require_path(os.path.join(args.run, "config.yaml"), "give the folder that tools/train_net.py wrote a run into")
    require_weights(args.opts)
    from igoas_plugin.cli.report import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
