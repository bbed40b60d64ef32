"""Measures the fast ways of the plugin beside the plain ones, in one run, and writes a table and a JSON file.

python tools/benchmark.py train --config-file FILE [--batch N] [KEY VALUE ...]
python tools/benchmark.py infer --config-file FILE [--batch N] [KEY VALUE ...]
python tools/benchmark.py loader --config-file FILE [--workers N ...] [KEY VALUE ...]
python tools/benchmark.py rank [ranking|reranking|expansion|search] [--queries N] [--gallery N ...] [--width D]

Every way is warmed up, then all ways are timed in turn, --repeats times; the table has the median, half of the range as
the spread, and the peak of the memory beyond what was in use. DIR gets a JSON file with every single time, and, of
several sizes of the gallery, a plot.
"""

import argparse
import os
import sys

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read by torch when it is imported: --profile says only its result

from tool_arguments import parser_of, require_config, require_weights


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ranks = commands.add_parser("rank", help="ranking of large galleries, on random descriptors")
    ranks.add_argument("what", nargs="?", choices=("ranking", "reranking", "expansion", "search"), default="ranking")
    ranks.add_argument("--queries", type=int, default=3368, help="default: 3368, of Market-1501")
    ranks.add_argument("--gallery", type=int, nargs="+", default=[60_000], help="sizes (default: 60000)")
    ranks.add_argument("--width", type=int, default=1024, help="of a descriptor (default: 1024)")
    trains = commands.add_parser("train", help="training steps on random images by the model of a config")
    trains.add_argument("--batch", type=int, help="images of a step (default: SOLVER.IMS_PER_BATCH)")
    infers = commands.add_parser("infer", help="descriptors of random images by the model of a config")
    infers.add_argument("--batch", type=int, default=16, help="images at once (default: 16)")
    loaders = commands.add_parser("loader", help="batches of the training loader, from drawn jpgs")
    loaders.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="numbers (default: 1 2 4)")
    loaders.add_argument("--batches", type=int, default=50, help="of each repeat (default: 50)")
    for each in (trains, infers, loaders):
        each.add_argument("--config-file", default="configs/OccDuke/igoas_R50.yml", metavar="FILE")
        if each is not loaders:
            each.add_argument("--profile", action="store_true", help="also tell the largest costs of each way")
        each.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, at the end")
    for each in (ranks, trains, infers, loaders):
        each.add_argument("--repeats", type=int, default=5, help="default: 5")
        each.add_argument("--threads", type=int, help="of torch and faiss (default: theirs)")
        each.add_argument("--output", default="logs/benchmark", metavar="DIR", help="default: logs/benchmark")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    args = arguments(words)
    if args.command != "rank":
        require_config(args.config_file)
        require_weights(args.opts)
    import igoas_plugin  # noqa: F401  (first: Ctrl-C during all imports is one line)

    # isort: split
    from benchmarks.measuring import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
