"""Exports a trained model to an ONNX file that runs without this package, and compares it with PyTorch.

python tools/export.py --config-file FILE --output model.onnx [--input uint8|float32] [--opset N] MODEL.WEIGHTS PATH
                       [KEY VALUE ...]

The file takes images (B, 3, H, W), RGB in [0, 255], for any B, and returns descriptors (B, D) of length 1. It contains
the normalisation, both branches and TEST.FLIP. It is only written if the descriptors of onnxruntime equal those of
PyTorch. Then both are timed with the same number of threads.
"""

import argparse
import sys

from tool_arguments import parser_of, require_config, require_weights


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config of the training")
    parser.add_argument("--output", required=True, metavar="FILE", help="ONNX file to write")
    parser.add_argument("--input", choices=("uint8", "float32"), default="uint8", help="dtype of the images (uint8)")
    parser.add_argument("--opset", type=int, default=18, help="version of ONNX's operators (default: %(default)s)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, at the end")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    args = arguments(words)
    require_config(args.config_file)
    require_weights(args.opts)
    from igoas_plugin.cli.export import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
