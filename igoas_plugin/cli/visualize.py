"""Draws a picture of a method, a model or its runs, and prints the path of the file.

python tools/visualize.py occlusion --config-file FILE [KEY VALUE ...]
python tools/visualize.py ranks --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
python tools/visualize.py activations --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
python tools/visualize.py embedding --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
python tools/visualize.py curves RUN [RUN ...]

The picture is OUTPUT_DIR/<command>.png, or --output. No GPU is needed (MODEL.DEVICE).
"""

import argparse
import logging
import os
import sys

from matplotlib.figure import Figure

from igoas_plugin.config import load_cfg, without_pairs
from igoas_plugin.core.command_line import errors_in_one_line, log_to_console
from igoas_plugin.core.errors import InputError
from igoas_plugin.inference.trained import check_trained
from igoas_plugin.preflight import check_names
from igoas_plugin.reports.figures.activation_figure import activations_picture
from igoas_plugin.reports.figures.cmc_curves import curves_picture, picture_of
from igoas_plugin.reports.figures.embedding import METHODS, embedding_picture
from igoas_plugin.reports.figures.figure_file import check_picture, save_figure
from igoas_plugin.reports.figures.occlusion_panel import occlusion_picture
from igoas_plugin.reports.figures.rank_figure import ranks_picture

logger = logging.getLogger("fastreid.igoas_plugin")

LEAST = {"count": 1, "top": 1, "seed": 0}


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, draw, about: str, aliases: tuple[str, ...] = ()) -> argparse.ArgumentParser:
        added = commands.add_parser(name, aliases=aliases, help=about, description=about, allow_abbrev=False)
        added.set_defaults(draw=draw)
        added.add_argument("--config-file", default="", metavar="FILE")
        added.add_argument("--output", metavar="PATH", help=f"png, pdf or svg (default: OUTPUT_DIR/{name}.png)")
        return added

    occlusion = command("occlusion", draw_occlusion, "what the occlusion block does to a batch, epoch by epoch")
    ranks = command("ranks", draw_ranks, "what a model finds for queries: right, wrong, and in the same camera")
    activations = command(
        "activations", draw_activations, "feature maps of clean and occluded images, over the images", ("responses",)
    )
    curves = command("curves", draw_curves, "CMC and training curves of several runs")
    embedding = command("embedding", draw_embedding, "descriptors of some identities in two dimensions")
    ranks.add_argument(
        "--queries", nargs="+", default=["random"], metavar="WHICH",
        help="random (default), worst or best by average precision; or positions, or (ends of) paths",
    )  # fmt: skip
    ranks.add_argument("--top", type=int, default=10, help="images in a rank list (default: 10)")
    ranks.add_argument("--hide-junk", action="store_true", help="hide images of the query's identity in its own camera")
    activations.add_argument("--images", nargs="+", default=[], metavar="PATH", help="default: random gallery images")
    activations.add_argument("--epoch", type=int, help="epoch, from 1, whose occlusion is applied (default: the last)")
    curves.add_argument("--scalars", nargs="+", default=[], metavar="NAME", help="default: total_loss, Rank-1, mAP")
    embedding.add_argument("--identities", nargs="+", default=[], metavar="ID", help="default: a random choice")
    embedding.add_argument("--method", choices=METHODS, default=METHODS[0], help="default: %(default)s")
    for each, count, what in (
        (occlusion, 4, "images of the batch"), (ranks, 8, "queries"), (activations, 3, "images"),
        (embedding, 10, "identities"),
    ):  # fmt: skip
        each.add_argument("--count", type=int, default=count, help=f"number of {what} (default: {count})")
        each.add_argument("--seed", type=int, default=0, help="seed of the random choice (default: 0)")
    words, opts = without_pairs(words)
    args, others = parser.parse_known_args(words)
    if unknown := [word for word in others if word.startswith("--")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    args.runs = others if args.command == "curves" else []
    args.opts = opts if args.command == "curves" else opts + others
    return args


def name_shown_set(cfg) -> None:
    """Logs which of several test sets a picture shows, and how to choose another."""
    if len(cfg.DATASETS.TESTS) > 1:
        shown, *others = cfg.DATASETS.TESTS
        logger.warning(
            "the picture shows %s, the first of DATASETS.TESTS; for %s give DATASETS.TESTS \"('%s',)\"",
            *(shown, " or ".join(others), others[0]),
        )


def draw_occlusion(args: argparse.Namespace, cfg) -> Figure:
    check_names(cfg)
    return occlusion_picture(cfg, args.count, args.seed)


def draw_ranks(args: argparse.Namespace, cfg) -> Figure:
    check_trained(cfg)
    name_shown_set(cfg)
    return ranks_picture(cfg, args.queries, args.count, args.top, args.seed, junk=not args.hide_junk)


def draw_activations(args: argparse.Namespace, cfg) -> Figure:
    check_trained(cfg)
    if not args.images:
        name_shown_set(cfg)
    return activations_picture(cfg, args.images, args.count, args.seed, args.epoch)


def draw_curves(args: argparse.Namespace, cfg) -> Figure:
    return curves_picture(runs_of(args, cfg), args.scalars)


def runs_of(args: argparse.Namespace, cfg) -> list[str]:
    """Returns the folders of the runs whose curves are drawn."""
    runs = [*args.runs, *([cfg.OUTPUT_DIR] if args.config_file else [])]
    if not runs:
        raise InputError("curves of which runs? Name their folders, or give --config-file for its OUTPUT_DIR")
    return runs


def draw_embedding(args: argparse.Namespace, cfg) -> Figure:
    check_trained(cfg)
    name_shown_set(cfg)
    return embedding_picture(cfg, args.identities, args.count, args.seed, args.method)


@errors_in_one_line()
def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    log_to_console()
    args = arguments(sys.argv[1:])
    cfg = load_cfg(args.config_file, args.opts)
    output = args.output or os.path.join(cfg.OUTPUT_DIR, f"{args.command}.png")
    if args.runs and not (args.output or args.config_file or "OUTPUT_DIR" in args.opts):
        output = picture_of(args.runs)
    check_picture(output)
    for name, least in LEAST.items():
        if getattr(args, name, least) < least:
            raise InputError(f"--{name} must be {least} or more, got {getattr(args, name)}")
    save_figure(args.draw(args, cfg), output)
    print(output)
