"""Conversion of ImageNet weights, as tools/convert_pretrained.py."""

import argparse

from igoas_plugin.checkpoint.convert import convert_pretrained
from igoas_plugin.core.command_line import errors_in_one_line


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/convert_pretrained.py.
    """
    made = convert_pretrained(args.source, args.target)
    print(f"{args.target}: {made.tensors} tensors. Train from it by")
    print(
        f"MODEL.BACKBONE.NAME {made.name} MODEL.BACKBONE.DEPTH {made.depth} MODEL.BACKBONE.FEAT_DIM {made.feat_dim} "
        f"MODEL.BACKBONE.PRETRAIN True MODEL.BACKBONE.PRETRAIN_PATH {args.target}"
    )
