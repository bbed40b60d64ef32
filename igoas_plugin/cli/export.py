"""Exports a trained model to an ONNX file that runs without this package, and compares it with PyTorch.

python tools/export.py --config-file FILE --output model.onnx [--input uint8|float32] [--opset N] MODEL.WEIGHTS PATH
                       [KEY VALUE ...]

The file takes images (B, 3, H, W), RGB in [0, 255], for any B, and returns descriptors (B, D) of length 1. It contains
the normalisation, both branches and TEST.FLIP. It is only written if the descriptors of onnxruntime equal those of
PyTorch. Then both are timed with the same number of threads.
"""

import argparse

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.core.timing import as_table
from igoas_plugin.inference.onnx_export import INPUTS, OPSET, TRIED, export


@errors_in_one_line()
def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config of the training")
    parser.add_argument("--output", required=True, metavar="FILE", help="ONNX file to write")
    parser.add_argument("--input", choices=INPUTS, default=INPUTS[0], help="dtype of the images (default: %(default)s)")
    parser.add_argument("--opset", type=int, default=OPSET, help="version of ONNX's operators (default: %(default)s)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, at the end")
    args = parser.parse_args()
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
