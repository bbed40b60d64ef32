"""Pictures of a method, a model or its runs, as tools/visualize.py."""

import argparse
import logging
import os

from matplotlib.figure import Figure

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line, log_to_console
from igoas_plugin.core.errors import InputError
from igoas_plugin.inference.trained import check_trained
from igoas_plugin.preflight import check_names
from igoas_plugin.reports.figures.activation_figure import activations_picture
from igoas_plugin.reports.figures.cmc_curves import curves_picture, picture_of
from igoas_plugin.reports.figures.embedding import embedding_picture
from igoas_plugin.reports.figures.figure_file import check_picture, save_figure
from igoas_plugin.reports.figures.occlusion_panel import occlusion_picture
from igoas_plugin.reports.figures.rank_figure import ranks_picture

logger = logging.getLogger("fastreid.igoas_plugin")

LEAST = {"count": 1, "top": 1, "seed": 0}


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


PICTURES = {
    "occlusion": draw_occlusion,
    "ranks": draw_ranks,
    "activations": draw_activations,
    "responses": draw_activations,  # its earlier name
    "curves": draw_curves,
    "embedding": draw_embedding,
}


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/visualize.py.
    """
    log_to_console()
    cfg = load_cfg(args.config_file, args.opts)
    output = args.output or os.path.join(cfg.OUTPUT_DIR, f"{args.command}.png")
    if args.runs and not (args.output or args.config_file or "OUTPUT_DIR" in args.opts):
        output = picture_of(args.runs)
    check_picture(output)
    for name, least in LEAST.items():
        if getattr(args, name, least) < least:
            raise InputError(f"--{name} must be {least} or more, got {getattr(args, name)}")
    save_figure(PICTURES[args.command](args, cfg), output)
    print(output)
