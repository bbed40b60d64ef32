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
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read by torch when it is imported: --profile says only its result

import igoas_plugin  # noqa: F401  (first: Ctrl-C during all imports is one line)

# isort: split
import faiss
import torch
from benchmarks import infer, loader, rank, train
from benchmarks.benchmark_report import as_json, growth_plot

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.core.files import write_atomically
from igoas_plugin.core.timing import Row, as_table


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    ranks = commands.add_parser("rank", help="ranking of large galleries, on random descriptors")
    ranks.add_argument("what", nargs="?", choices=rank.COMMANDS, default="ranking")
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


def measured(args: argparse.Namespace) -> Iterator[Row]:
    """Yields the rows of a command as they are measured."""
    if args.command == "rank":
        args.name = f"rank_{args.what}"
        return rank.COMMANDS[args.what](args.queries, args.gallery, args.width, args.repeats)
    args.name = f"{args.command}_{Path(args.config_file).stem}"
    cfg = load_cfg(args.config_file, args.opts)
    if args.command == "loader":
        return loader.loading(cfg, args.workers, args.batches, args.repeats)
    if args.command == "train":
        return train.training(cfg, args.batch or cfg.SOLVER.IMS_PER_BATCH, args.repeats, args.profile)
    return infer.inference(cfg, args.batch, args.repeats, args.profile)


def main(words: list[str]) -> None:
    args = arguments(words)
    if args.threads:
        torch.set_num_threads(args.threads)
        faiss.omp_set_num_threads(args.threads)
    rows = []
    for row in measured(args):
        rows.append(row)
        print(f"{row.case}, {row.way}: {row.median:.3g} s", file=sys.stderr, flush=True)
    os.makedirs(args.output, exist_ok=True)
    written = {
        "json": as_json(rows, shlex.join(["python", "tools/benchmark.py", *words])).encode(),
        "png": growth_plot(rows),
    }
    print(as_table(rows), end="\n\n")
    for kind, content in written.items():
        if content:
            path = os.path.join(args.output, f"{args.name}.{kind}")
            write_atomically(path, lambda file, content=content: file.write(content))
            print(path)


if __name__ == "__main__":
    with errors_in_one_line():
        main(sys.argv[1:])
