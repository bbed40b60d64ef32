"""Converts weights of the original IGOAS for MODEL.WEIGHTS, and the .pth of a training to .safetensors or back.

python tools/convert_checkpoint.py model.pth.tar-90 igoas_R50.pth
python tools/convert_checkpoint.py logs/run/model_best.pth igoas_R50.safetensors
python tools/convert_checkpoint.py igoas_R50.safetensors igoas_R50.pth
"""

import argparse

from igoas_plugin.checkpoint.convert import convert_checkpoint
from igoas_plugin.core.command_line import errors_in_one_line


@errors_in_one_line()
def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "source",
        metavar="IN",
        help="model.pth.tar-N of the original, .pth of a training or a state_dict(), .safetensors",
    )
    parser.add_argument("target", metavar="OUT", help="file to write, .safetensors or .pth by its ending")
    args = parser.parse_args()
    print(f"{args.target}: {convert_checkpoint(args.source, args.target)} tensors")
