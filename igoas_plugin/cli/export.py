"""Export to ONNX, as tools/export.py."""

import argparse

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.core.timing import as_table
from igoas_plugin.inference.onnx_export import TRIED, export


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/export.py.
    """
    exported = export(load_cfg(args.config_file, args.opts), args.output, args.input, args.opset)
    made, (height, width) = exported.description, exported.description.size
    print(
        f"{args.output}: {exported.megabytes:.0f} MB, opset {made.opset}, {made.input} images {height}x{width}, "
        f"descriptors of {made.descriptor_width} values"
    )
    print(
        f"largest difference to PyTorch: {exported.difference:.2g} (batches of {TRIED[0]} and {TRIED[1]})", flush=True
    )
    print(as_table(exported.speed()))
