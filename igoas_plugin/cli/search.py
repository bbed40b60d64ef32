"""Index of a folder of crops, and search in it, as tools/search.py."""

import argparse
import logging

from tqdm.contrib.logging import logging_redirect_tqdm

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line, log_to_console
from igoas_plugin.core.files import check_output_file
from igoas_plugin.inference.predictor import FeatureExtractor, Predictor
from igoas_plugin.inference.search.answers import as_json, as_text, search
from igoas_plugin.inference.search.gallery_file import GalleryFile
from igoas_plugin.inference.search.indexing import index_folder
from igoas_plugin.reports.html.search_page import write_page

logger = logging.getLogger("fastreid.igoas_plugin")

FORMATS = {"text": as_text, "json": as_json}


def predictor_of(args: argparse.Namespace) -> FeatureExtractor:
    """Returns the predictor of --config-file or --model."""
    if args.model:
        from igoas_plugin.inference.onnx_predictor import OnnxPredictor  # needs onnxruntime

        return OnnxPredictor(args.model)
    return Predictor(load_cfg(args.config_file, args.opts))


def run_index(args: argparse.Namespace) -> None:
    """Makes or updates an index and prints the counts."""
    with logging_redirect_tqdm():
        counts = index_folder(args.folder, args.output, predictor_of(args), args.kind)
    print(f"{args.output}: {counts}")


def run_query(args: argparse.Namespace) -> None:
    """Searches in an index and prints the answers."""
    if args.html:
        check_output_file(args.html, "--html")
    with GalleryFile(args.index) as file:
        answers = search(file, args.images, args.top, predictor_of(args), args.folder)
    print(FORMATS[args.format](answers))
    if args.html:
        write_page(answers, args.html)
        logger.info(f"The pictures are on {args.html}")


COMMANDS = {"index": run_index, "query": run_query}


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/search.py.
    """
    log_to_console()
    COMMANDS[args.command](args)
