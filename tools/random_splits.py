"""Runs tools/train_net.py on the ten random draws of a protocol and prints their mean and standard deviation.

python tools/random_splits.py PROTOCOL --config-file FILE [--resume] [--eval-only] [KEY VALUE ...]

PROTOCOL OccludedREIDHalfSplit trains on ten random halves of the identities and evaluates on the other half, in
OUTPUT_DIR/split0 to split9. --resume continues the unfinished ones. With --eval-only, as for PartialREIDSingleShot, one
model is evaluated on the test sets of all ten draws. Further words go to tools/train_net.py.
"""

import argparse
import sys

from tool_arguments import add_run_options, parser_of, require_config, require_weights


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line; `flags` are the words for tools/train_net.py before the KEY VALUE pairs."""
    parser = parser_of(__doc__)
    add_run_options(parser)
    # argparse gives every word after a positional one to the KEY VALUE pairs, so PROTOCOL is taken out first
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        parser.error("PROTOCOL is missing: OccludedREIDHalfSplit or PartialREIDSingleShot comes first")
    protocol, *words = words if words[0] not in ("-h", "--help") else ["", *words]
    args = parser.parse_args(words)
    args.protocol, args.flags = protocol, words[: len(words) - len(args.opts)]
    return args


def main(words: list[str]) -> None:
    args = arguments(words)
    require_config(args.config_file, args.opts)
    require_weights(args.opts)
    from igoas_plugin.cli.random_splits import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
