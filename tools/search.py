"""Searches for a person in a folder of crops.

python tools/search.py index FOLDER --output FILE --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...] [--kind KIND]
python tools/search.py query IMAGE [IMAGE ...] --index FILE --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
                             [--top N] [--format text|json] [--html FILE] [--folder FOLDER]

index computes the descriptors of all images in FOLDER and below, or of the new ones since the last time. It can be
stopped, and the same command goes on. query prints the images that are most similar to each IMAGE, with their cosine
similarities. Both take --model model.onnx in place of --config-file.
"""

import argparse
import sys

from tool_arguments import parser_of, require_config, require_path, require_weights


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line; `config_file` and `opts` are separated."""
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    index = commands.add_parser("index", help="make an index of a folder, or bring it up to date", allow_abbrev=False)
    index.add_argument("folder", metavar="FOLDER")
    index.add_argument("--output", required=True, metavar="FILE", help="the index, such as gallery.index")
    index.add_argument(
        "--kind", choices=("flat", "ivf", "hnsw", "pq"), help="kind of faiss index (default: that of FILE, or flat)"
    )
    query = commands.add_parser("query", help="search in an index", allow_abbrev=False)
    query.add_argument("images", nargs="+", metavar="IMAGE")
    query.add_argument("--index", required=True, metavar="FILE", help="index of the other command")
    query.add_argument("--top", type=positive, default=10, metavar="N", help="matches of each (default: %(default)s)")
    query.add_argument("--format", choices=("text", "json"), default="text", help="of the output (default: text)")
    query.add_argument("--html", metavar="FILE", help="also write a page with the pictures")
    query.add_argument("--folder", help="folder of the indexed images if they were moved")
    for each in (index, query):
        model = each.add_mutually_exclusive_group(required=True)
        model.add_argument("--config-file", nargs="+", metavar=("FILE", "KEY VALUE"), help="and MODEL.WEIGHTS PATH")
        model.add_argument("--model", metavar="FILE", help="ONNX file of tools/export.py")
    args = parser.parse_args(words)
    args.config_file, *args.opts = args.config_file or [None]
    return args


def positive(word: str) -> int:
    """Returns a whole number from 1; raises ArgumentTypeError for another word."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(word)


def main(words: list[str]) -> None:
    args = arguments(words)
    if args.model:
        require_path(args.model, "name a file that tools/export.py wrote")
    else:
        require_config(args.config_file)
        require_weights(args.opts)
    if args.command == "query":
        require_path(args.index, "make it by tools/search.py index")
    from igoas_plugin.cli.search import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
