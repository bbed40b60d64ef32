"""Pictures of a method, a model and its runs; the paths of the files are printed.

python tools/visualize.py occlusion --config-file FILE [KEY VALUE ...]
python tools/visualize.py ranks --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
python tools/visualize.py responses --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
python tools/visualize.py embedding --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
python tools/visualize.py curves RUN [RUN ...]

A picture goes to OUTPUT_DIR/<command>.png, or to --output. No GPU is needed (MODEL.DEVICE).
"""

import argparse
import os
import sys

from matplotlib.figure import Figure

from igoas_plugin.config import flat_keys, get_cfg, load_cfg
from igoas_plugin.core.command_line import errors_in_one_line, log_to_console
from igoas_plugin.core.errors import InputError
from igoas_plugin.inference.trained import check_trained
from igoas_plugin.preflight import check_names
from igoas_plugin.reports.figures.activation_figure import responses_picture
from igoas_plugin.reports.figures.cmc_curves import curves_picture
from igoas_plugin.reports.figures.embedding import METHODS, embedding_picture
from igoas_plugin.reports.figures.figure_file import check_picture, save_figure
from igoas_plugin.reports.figures.occlusion_panel import occlusion_picture
from igoas_plugin.reports.figures.ranks import ranks_picture

LISTS = ("queries", "images", "identities", "scalars")  # options with several values, which may swallow KEY VALUE
LEAST = {"count": 1, "top": 1, "seed": 0}


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, draw, about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        added.set_defaults(draw=draw)
        added.add_argument("--config-file", default="", metavar="FILE")
        added.add_argument("--output", metavar="PATH", help=f"png, pdf or svg (default: OUTPUT_DIR/{name}.png)")
        return added

    occlusion = command("occlusion", draw_occlusion, "what the occlusion block does to a batch, epoch by epoch")
    ranks = command("ranks", draw_ranks, "what a model finds for queries: right, wrong, and in the same camera")
    responses = command("responses", draw_responses, "feature maps of clean and occluded images, over the images")
    curves = command("curves", draw_curves, "CMC and training curves of several runs")
    embedding = command("embedding", draw_embedding, "descriptors of some identities in two dimensions")
    ranks.add_argument(
        "--queries", nargs="+", default=["random"], metavar="WHICH",
        help="random (default), worst or best by average precision; or positions, or (ends of) paths",
    )  # fmt: skip
    ranks.add_argument("--top", type=int, default=10, help="images of a rank list (default: 10)")
    ranks.add_argument("--hide-junk", action="store_true", help="leave images of the query's own camera out")
    responses.add_argument("--images", nargs="+", default=[], metavar="PATH", help="default: random gallery images")
    responses.add_argument("--epoch", type=int, help="whose occlusion is drawn (default: the last one)")
    curves.add_argument("--scalars", nargs="+", default=[], metavar="NAME", help="default: total_loss, Rank-1, mAP")
    embedding.add_argument("--identities", nargs="+", default=[], metavar="ID", help="default: a random choice")
    embedding.add_argument("--method", choices=METHODS, default=METHODS[0], help="default: %(default)s")
    for each, count, what in (
        (occlusion, 4, "images of the batch"), (ranks, 8, "queries"), (responses, 3, "images"),
        (embedding, 10, "identities"),
    ):  # fmt: skip
        each.add_argument("--count", type=int, default=count, help=f"{what} (default: {count})")
        each.add_argument("--seed", type=int, default=0, help="of a random choice (default: 0)")
    args, others = parser.parse_known_args(words)
    if unknown := [word for word in others if word.startswith("--")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return separated(args, others)


def separated(args: argparse.Namespace, others: list[str]) -> argparse.Namespace:
    """Config keys may follow anything: where a list of words comes to one, KEY VALUE pairs begin."""
    keys, args.opts = set(flat_keys(get_cfg())), []

    def until_key(words: list[str]) -> list[str]:
        end = next((index for index, word in enumerate(words) if word in keys), len(words))
        args.opts += words[end:]
        return words[:end]

    for name in LISTS:
        if words := getattr(args, name, None):
            setattr(args, name, until_key(words))
            if not getattr(args, name):
                raise InputError(f"--{name} has no value: {words[0]} is a config key")
    if args.command == "curves":
        args.runs = until_key(others)
    else:
        args.opts += others
    return args


def draw_occlusion(args: argparse.Namespace, cfg) -> Figure:
    check_names(cfg)
    return occlusion_picture(cfg, args.count, args.seed)


def draw_ranks(args: argparse.Namespace, cfg) -> Figure:
    check_trained(cfg)
    return ranks_picture(cfg, args.queries, args.count, args.top, args.seed, junk=not args.hide_junk)


def draw_responses(args: argparse.Namespace, cfg) -> Figure:
    check_trained(cfg)
    return responses_picture(cfg, args.images, args.count, args.seed, args.epoch)


def draw_curves(args: argparse.Namespace, cfg) -> Figure:
    runs = [*args.runs, *([cfg.OUTPUT_DIR] if args.config_file else [])]
    if not runs:
        raise InputError("curves of which runs? Name their folders, or give --config-file for its OUTPUT_DIR")
    return curves_picture(runs, args.scalars)


def draw_embedding(args: argparse.Namespace, cfg) -> Figure:
    check_trained(cfg)
    if wrong := [word for word in args.identities if not word.isdecimal()]:
        raise InputError(f"--identities {wrong[0]}: an identity is a whole number")
    return embedding_picture(cfg, [int(word) for word in args.identities], args.count, args.seed, args.method)


def main(words: list[str]) -> None:
    args = arguments(words)
    cfg = load_cfg(args.config_file, args.opts)
    args.output = args.output or os.path.join(cfg.OUTPUT_DIR, f"{args.command}.png")
    check_picture(args.output)
    for name, least in LEAST.items():
        if getattr(args, name, least) < least:
            raise InputError(f"--{name} must be {least} or more, got {getattr(args, name)}")
    save_figure(args.draw(args, cfg), args.output)
    print(args.output)


def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    log_to_console()
    with errors_in_one_line():
        main(sys.argv[1:])


if __name__ == "__main__":
    run()
