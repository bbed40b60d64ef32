"""Prints one table of the metrics of several runs, and the paths of the last run's log, weights and events.

python tools/summarize.py OUTPUT_DIR [OUTPUT_DIR ...]
"""

import argparse

from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.evaluation.results import summarize


@errors_in_one_line()
def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output_dirs", nargs="+", metavar="OUTPUT_DIR", help="folder of a run of tools/train_net.py")
    print(summarize(parser.parse_args().output_dirs))
