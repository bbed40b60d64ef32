"""Evaluates models on OccludedMarket1501 over all severities and kinds of occlusion: a CSV file and a plot.

python tools/occlusion_curve.py --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
                               [--config-file FILE MODEL.WEIGHTS PATH ...] [--output FOLDER]
"""

import argparse
import sys

from tool_arguments import end, parser_of, require_config, require_weights


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line; `models` is a list of (config file, [KEY, VALUE, ...])."""
    parser = parser_of(__doc__)
    parser.add_argument("--output", default="logs/occlusion_curve", help="folder of the results (default: %(default)s)")
    args, words = parser.parse_known_args(words)
    starts = [index for index, word in enumerate(words) if word == "--config-file"]
    if words[:1] != ["--config-file"] or words[-1] == "--config-file":
        end("give each model as --config-file FILE MODEL.WEIGHTS PATH, with further KEY VALUE pairs")
    groups = [words[start + 1 : stop] for start, stop in zip(starts, [*starts[1:], None], strict=True)]
    args.models = [(group[0], group[1:]) for group in groups]
    return args


def main(words: list[str]) -> None:
    args = arguments(words)
    for config, opts in args.models:
        require_config(config)
        require_weights(opts)
    from igoas_plugin.cli.occlusion_curve import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
