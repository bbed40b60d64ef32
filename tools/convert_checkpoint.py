"""Converts weights of the original IGOAS for MODEL.WEIGHTS, and the .pth of a training to .safetensors or back.

python tools/convert_checkpoint.py model.pth.tar-90 igoas_R50.pth
python tools/convert_checkpoint.py logs/run/model_best.pth igoas_R50.safetensors
python tools/convert_checkpoint.py igoas_R50.safetensors igoas_R50.pth
"""

import argparse
import sys

from tool_arguments import parser_of, require_path


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "source",
        metavar="IN",
        help="model.pth.tar-N of the original, .pth of a training or a state_dict(), .safetensors",
    )
    parser.add_argument("target", metavar="OUT", help="file to write, .safetensors or .pth by its ending")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    args = arguments(words)
    require_path(args.source, "name the file to convert")
    from igoas_plugin.cli.convert_checkpoint import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
