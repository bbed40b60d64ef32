"""Evaluates a run again and writes one HTML page about it, which needs no network and no other file.

python tools/report.py RUN_DIR [--output FILE.html] [--queries N] [KEY VALUE ...]

RUN_DIR is the OUTPUT_DIR of tools/train_net.py. The tool takes its config.yaml and its weights, and the test sets of
DATASETS.TESTS. The page shows configuration, counts of the data sets, metrics beside published ones, CMC, the severity
curve of an occlusion if it was measured, the worst and best queries with rank lists and activation maps, and the AP of
every identity, camera and query.
"""

import argparse
import os
import shlex
import sys

from igoas_plugin.core.command_line import errors_in_one_line, log_to_console
from igoas_plugin.core.files import check_output_file, write_atomically
from igoas_plugin.inference.fingerprint import fingerprint
from igoas_plugin.inference.trained import build_trained, check_trained
from igoas_plugin.preflight import check_test_data
from igoas_plugin.reports.html.run_evaluation import evaluate, page_of
from igoas_plugin.reports.html.run_folder import open_run

# Queries with pictures of each kind (worst, best, random): of the whole page, and at least of each test set. One takes
# some 75 kB.
QUERIES, FEWEST = 20, 4


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN_DIR", help="folder of the run")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override its config.yaml, MODEL.WEIGHTS too")
    parser.add_argument("--output", metavar="FILE.html", help="path of the page (default: RUN_DIR/report.html)")
    parser.add_argument(
        "--queries",
        type=int,
        metavar="N",
        help=f"show pictures of the N worst, N best and N random queries of each test set (default: {QUERIES} divided "
        f"by the number of test sets, at least {FEWEST}: the page then has about 5 MB)",
    )
    args = parser.parse_intermixed_args(words)
    if args.queries is not None and args.queries < 0:
        parser.error("--queries must not be negative")
    return args


@errors_in_one_line()
def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    log_to_console()
    args = arguments(sys.argv[1:])
    folder = open_run(args.run, args.opts)
    output = args.output or os.path.join(args.run, "report.html")
    check_output_file(output)
    folder.cfg.OUTPUT_DIR = args.run  # the folder may have been moved
    check_trained(folder.cfg)
    for name in folder.cfg.DATASETS.TESTS:
        check_test_data(name, folder.cfg.TEST.CAMERA_RULE)
    count = max(FEWEST, QUERIES // len(folder.cfg.DATASETS.TESTS)) if args.queries is None else args.queries
    model = build_trained(folder.cfg)
    sets = evaluate(folder, model, count)
    page = page_of(folder, sets, fingerprint(folder.cfg, model).weights, shlex.join(["python", *sys.argv]))
    write_atomically(output, lambda file: file.write(page))
    print(f"{output}, {len(page) / 1e6:.1f} MB")
