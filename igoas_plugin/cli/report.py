"""One HTML page about a run, as tools/report.py."""

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


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/report.py.
    """
    log_to_console()
    folder = open_run(args.run, args.opts)
    output = args.output or os.path.join(args.run, "report.html")
    check_output_file(output)
    folder.cfg.OUTPUT_DIR = args.run  # the folder may have been moved
    check_trained(folder.cfg)
    for name in folder.cfg.DATASETS.TESTS:
        check_test_data(name, folder.cfg.TEST.CAMERA_RULE, folder.cfg.TEST.NFC.ENABLED)
    count = max(FEWEST, QUERIES // len(folder.cfg.DATASETS.TESTS)) if args.queries is None else args.queries
    model = build_trained(folder.cfg)
    sets = evaluate(folder, model, count)
    page = page_of(folder, sets, fingerprint(folder.cfg, model).weights, shlex.join(["python", *sys.argv]))
    write_atomically(output, lambda file: file.write(page))
    print(f"{output}, {len(page) / 1e6:.1f} MB")
