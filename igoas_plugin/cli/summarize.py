"""One table of several runs, as tools/summarize.py."""

import argparse

from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.evaluation.results import summarize


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/summarize.py.
    """
    print(summarize(args.output_dirs))
