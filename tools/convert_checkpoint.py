"""Converts weights of the original IGOAS implementation for tools/train_net.py ... MODEL.WEIGHTS OUT.

python tools/convert_checkpoint.py model.pth.tar-90 igoas_R50.pth
"""

import argparse

from igoas_plugin.checkpoint import convert_reference_checkpoint
from igoas_plugin.command_line import errors_in_one_line

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", metavar="IN", help="model.pth.tar-N of the original")
    parser.add_argument("target", metavar="OUT", help="file to write")
    args = parser.parse_args()
    with errors_in_one_line():
        print(f"{args.target}: {convert_reference_checkpoint(args.source, args.target)} tensors")
