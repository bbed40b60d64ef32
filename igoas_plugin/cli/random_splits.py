"""The ten random draws of a protocol, as tools/random_splits.py."""

import argparse
import os
import subprocess
import sys

from igoas_plugin.config import load_cfg
from igoas_plugin.core.command_line import errors_in_one_line, exit_code, stop_on_sigterm, stopped_with_this_process
from igoas_plugin.core.errors import require_choice
from igoas_plugin.core.spelling import spelled
from igoas_plugin.datasets.published import PROTOCOL_OF
from igoas_plugin.evaluation.results import TRAINED, summarize

TRAIN_NET = (sys.executable, "-m", "igoas_plugin.cli.train_net")


def train_net(*words: str) -> None:
    """Runs tools/train_net.py; ends this process with its exit code if that is not 0."""
    process = subprocess.Popen([*TRAIN_NET, *words])
    try:
        with stopped_with_this_process(process):
            process.wait()
    finally:
        if process.returncode:
            sys.exit(exit_code(process))


def main(args: argparse.Namespace) -> None:
    """Runs all draws of a protocol and prints the table of their results."""
    flags, output = args.flags, load_cfg(args.config_file, args.opts).OUTPUT_DIR
    known = sorted(set(PROTOCOL_OF.values()))  # after the modules in IMPORTS
    protocol = spelled("PROTOCOL", args.protocol, known)
    require_choice("PROTOCOL", protocol, known)
    draws = [name for name in PROTOCOL_OF if PROTOCOL_OF[name] == protocol]
    if args.eval_only:
        return train_net(*flags, *args.opts, "DATASETS.TESTS", str(tuple(draws)))
    folders = [os.path.join(output, f"split{seed}") for seed in range(len(draws))]
    for name, folder in zip(draws, folders, strict=True):
        if not (args.resume and os.path.exists(os.path.join(folder, TRAINED))):
            sets = str((name,))
            train_net(*flags, *args.opts, "DATASETS.NAMES", sets, "DATASETS.TESTS", sets, "OUTPUT_DIR", folder)
    print(summarize(folders))


@errors_in_one_line()
def run(args: argparse.Namespace) -> None:
    """Runs the command and ends the process with its exit code.

    Args:
        args: command line of tools/random_splits.py.
    """
    stop_on_sigterm()
    main(args)
