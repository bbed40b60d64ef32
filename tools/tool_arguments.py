"""Parts of the command lines that need the standard library alone: they answer before torch is imported."""

import argparse
import os
import re
import runpy
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

VERSION = os.path.join(os.path.dirname(__file__), "..", "igoas_plugin", "core", "version.py")
# Config keys that are one word; all others have a dot.
ONE_WORD_KEYS = ("CUDNN_BENCHMARK", "IMPORTS", "OUTPUT_DIR", "SEED")
KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")


def parser_of(doc: str) -> argparse.ArgumentParser:
    """Returns the parser of a tool, whose help begins with the docstring of the tool."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def end(message: str) -> NoReturn:
    """Ends the tool with one line and exit code 2, as an InputError of the package does.

    Every process of torchrun finds the same mistake, and the first one of a machine prints it.
    """
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in message)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"igoas_plugin {runpy.run_path(VERSION)['__version__']}: {line}", file=sys.stderr)
    sys.exit(2)


def require_path(path: str, advice: str, kind: str = "") -> None:
    """Ends the tool if a file or folder does not exist.

    Args:
        path: path from the command line.
        advice: what the user can do.
        kind: words before the path.
    """
    if not os.path.exists(path):
        end(f"{kind} {path} does not exist: {advice}".lstrip())


def require_config(path: str, words: Sequence[str] = ()) -> None:
    """Ends the tool if there is no path of a config, or no such file.

    Args:
        path: value of --config-file; "" if it is missing.
        words: KEY VALUE pairs, among which a config without --config-file is found.
    """
    if not path:
        given = next(filter(is_config, words), None)
        if given:
            end(f"{given} needs --config-file before it: --config-file {given}")
        end("--config-file is missing: name a config, such as --config-file configs/Market1501/igoas_R50.yml")
    if not os.path.isfile(path):
        end(f"config file {path} does not exist: give --config-file the path of a YAML file")


def is_config(word: str) -> bool:
    """Returns whether a word of the command line is a config file by its ending."""
    return word.endswith((".yml", ".yaml"))


def require_weights(words: list[str]) -> None:
    """Ends the tool if MODEL.WEIGHTS among KEY VALUE pairs names no file."""
    for key, path in zip(words[::2], words[1::2], strict=False):
        if key == "MODEL.WEIGHTS" and path and "://" not in path and not os.path.exists(path):
            end(f"checkpoint {path} does not exist: set MODEL.WEIGHTS to a file written by a training")


def is_key(word: str) -> bool:
    """Returns whether a word is a config key by its form; a data set such as MSMT17 is none."""
    return word in ONE_WORD_KEYS or bool(KEY.fullmatch(word))


def without_pairs(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Separates KEY VALUE pairs from the other words, so that an option with several values does not take them."""
    others, opts = [], []
    remaining = iter(words)
    for word in remaining:
        if is_key(word):
            opts.append(word)
            opts += [value for value in [next(remaining, None)] if value is not None]
        else:
            others.append(word)
    return others, opts


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a training or an evaluation, which are those of fast-reid's own script."""
    parser.add_argument("--config-file", default="", metavar="FILE", help="YAML file of the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, train nothing")
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="number of machines (default: 1)")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="N", help="number of this machine, from 0")
    parser.add_argument(
        "--dist-url", default="auto", metavar="URL",
        help="tcp://HOST:PORT of the first machine; auto (default): a free port of this one",
    )  # fmt: skip
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys with their values, at the end"
    )
