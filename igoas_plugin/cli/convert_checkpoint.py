"""Conversion of checkpoints, as tools/convert_checkpoint.py."""

import argparse

from igoas_plugin.checkpoint.convert import convert_checkpoint
from igoas_plugin.core.command_line import errors_in_one_line


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/convert_checkpoint.py.
    """
    print(f"{args.target}: {convert_checkpoint(args.source, args.target)} tensors")
