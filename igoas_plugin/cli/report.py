"""Evaluates a run anew and writes all of it as one HTML page, which needs no network and no file beside it.

python tools/report.py RUN_DIR [--output FILE.html] [--queries N] [KEY VALUE ...]

RUN_DIR is the OUTPUT_DIR of tools/train_net.py: its config.yaml and its weights are taken, and the test sets of
DATASETS.TESTS. On the page: configuration, counts of the data sets, metrics beside published ones, CMC, what the
severity of an occlusion does where that was measured, the worst and best queries with rank lists and response maps, AP
of every identity, camera and query.
"""

import argparse
import os
import shlex
import sys

from igoas_plugin.core.command_line import errors_in_one_line, log_to_console
from igoas_plugin.core.files import check_output_file, write_atomically
from igoas_plugin.inference.trained import build_trained, check_trained
from igoas_plugin.preflight import check_test_data
from igoas_plugin.reports.html.run_evaluation import evaluate
from igoas_plugin.reports.html.run_folder import open_run
from igoas_plugin.reports.html.run_page import page_of

QUERIES, FEWEST = 20, 4  # with pictures, of a page and of a test set: three times as many, some 75 kB each


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN_DIR", help="folder of the run")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="win over its config.yaml, MODEL.WEIGHTS too")
    parser.add_argument("--output", metavar="FILE.html", help="where the page goes (default: RUN_DIR/report.html)")
    parser.add_argument(
        "--queries",
        type=int,
        metavar="N",
        help="show the N worst, N best and N random queries of each test set with pictures (default: 20, of several "
        "test sets fewer, but 4: the page then has about 5 MB)",
    )
    args = parser.parse_intermixed_args(words)
    if args.queries is not None and args.queries < 0:
        parser.error("--queries must not be negative")
    return args


def main(words: list[str]) -> None:
    args = arguments(words)
    run = open_run(args.run, args.opts)
    output = args.output or os.path.join(args.run, "report.html")
    check_output_file(output)
    run.cfg.OUTPUT_DIR = args.run  # where it is now
    check_trained(run.cfg)
    for name in run.cfg.DATASETS.TESTS:
        check_test_data(name)
    shown = max(FEWEST, QUERIES // len(run.cfg.DATASETS.TESTS)) if args.queries is None else args.queries
    model = build_trained(run.cfg)
    page = page_of(evaluate(run, model, shown), shlex.join(["python", *sys.argv]))
    write_atomically(output, lambda file: file.write(page))
    print(f"{output}, {len(page) / 1e6:.1f} MB")


def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    log_to_console()
    with errors_in_one_line():
        main(sys.argv[1:])


if __name__ == "__main__":
    run()
