"""Lay-out of a published data set, as tools/prepare_data.py."""

import argparse
import logging

from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.datasets.prepare import prepare


@errors_in_one_line(interrupted="interrupted: run the same command again")
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/prepare_data.py.
    """
    logging.basicConfig(format="%(message)s")
    print(prepare(args.name, args.source, args.root, args.link))
