"""Trains a model, or evaluates a trained one.

python tools/train_net.py --config-file configs/Market1501/igoas_R50.yml
python tools/train_net.py --config-file configs/Market1501/igoas_R50.yml --resume
python tools/train_net.py --config-file configs/Market1501/igoas_R50.yml --eval-only MODEL.WEIGHTS PATH
python tools/train_net.py --config-file configs/Market1501/igoas_R50.yml SOLVER.MAX_EPOCH 30 OUTPUT_DIR logs/short

A run writes its checkpoints, log and metrics into OUTPUT_DIR. docs/configs.md has every key. Exit codes: 0 success,
1 the run failed, 2 a mistake that was found before the run wrote anything, 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import sys

from tool_arguments import add_run_options, parser_of, require_config, require_weights


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parser_of(__doc__)
    add_run_options(parser)
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    args = arguments(words)
    require_config(args.config_file, args.opts)
    require_weights(args.opts)
    from igoas_plugin.cli.train_net import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
