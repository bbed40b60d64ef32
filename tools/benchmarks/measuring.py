"""The measurements of tools/benchmark.py, from its command line to the files."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import faiss
import torch

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line
from igoas_plugin.core.files import write_atomically
from igoas_plugin.core.timing import Row, as_table

from . import infer, loader, rank, train
from .benchmark_report import as_json, growth_plot


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


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/benchmark.py.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
        faiss.omp_set_num_threads(args.threads)
    rows = []
    for row in measured(args):
        rows.append(row)
        print(f"{row.case}, {row.way}: {row.median:.3g} s", file=sys.stderr, flush=True)
    os.makedirs(args.output, exist_ok=True)
    written = {
        "json": as_json(rows, shlex.join(["python", "tools/benchmark.py", *sys.argv[1:]])).encode(),
        "png": growth_plot(rows),
    }
    print(as_table(rows), end="\n\n")
    for kind, content in written.items():
        if content:
            path = os.path.join(args.output, f"{args.name}.{kind}")
            write_atomically(path, lambda file, content=content: file.write(content))
            print(path)
