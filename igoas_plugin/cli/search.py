"""Searches for a person in a folder of crops.

python tools/search.py index FOLDER --output FILE --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...] [--kind KIND]
python tools/search.py query IMAGE [IMAGE ...] --index FILE --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
                             [--top N] [--format text|json] [--html FILE] [--folder FOLDER]

index computes the descriptors of all images in FOLDER and below, or of the new ones since the last time. It can be
stopped, and the same command goes on. query prints the images that are most similar to each IMAGE, with their cosine
similarities. Both take --model model.onnx in place of --config-file.
"""

import argparse

from tqdm.contrib.logging import logging_redirect_tqdm

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line, log_to_console
from igoas_plugin.core.files import check_output_file
from igoas_plugin.evaluation.ranking.neighbour_index import KINDS
from igoas_plugin.inference.predictor import FeatureExtractor, Predictor
from igoas_plugin.inference.search.answers import as_json, as_text, search
from igoas_plugin.inference.search.gallery_file import GalleryFile
from igoas_plugin.inference.search.indexing import index_folder
from igoas_plugin.reports.html.search_page import write_page

FORMATS = {"text": as_text, "json": as_json}


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True)
    index = commands.add_parser("index", help="make an index of a folder, or bring it up to date", allow_abbrev=False)
    index.set_defaults(run=run_index)
    index.add_argument("folder", metavar="FOLDER")
    index.add_argument("--output", required=True, metavar="FILE", help="the index, such as gallery.index")
    index.add_argument("--kind", choices=KINDS, help="kind of faiss index (default: that of FILE, or flat)")
    query = commands.add_parser("query", help="search in an index", allow_abbrev=False)
    query.set_defaults(run=run_query)
    query.add_argument("images", nargs="+", metavar="IMAGE")
    query.add_argument("--index", required=True, metavar="FILE", help="index of the other command")
    query.add_argument("--top", type=positive, default=10, metavar="N", help="matches of each (default: %(default)s)")
    query.add_argument("--format", choices=FORMATS, default="text", help="format of the output (default: %(default)s)")
    query.add_argument("--html", metavar="FILE", help="also write a page with the pictures")
    query.add_argument("--folder", help="folder of the indexed images if they were moved")
    for each in (index, query):
        model = each.add_mutually_exclusive_group(required=True)
        model.add_argument("--config-file", nargs="+", metavar=("FILE", "KEY VALUE"), help="and MODEL.WEIGHTS PATH")
        model.add_argument("--model", metavar="FILE", help="ONNX file of tools/export.py")
    return parser.parse_args()


def positive(word: str) -> int:
    """Returns a whole number from 1; raises ArgumentTypeError for another word."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(word)


def predictor_of(args: argparse.Namespace) -> FeatureExtractor:
    """Returns the predictor of --config-file or --model."""
    if args.model:
        from igoas_plugin.inference.onnx_predictor import OnnxPredictor  # needs onnxruntime

        return OnnxPredictor(args.model)
    file, *opts = args.config_file
    return Predictor(load_cfg(file, opts))


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


@errors_in_one_line()
def run() -> None:
    """Runs the command line and ends the process with its exit code."""
    log_to_console()
    args = arguments()
    args.run(args)
