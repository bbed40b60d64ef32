"""Runs a tool in the process of the tests with the result of a process of its own, without four seconds of imports."""

import contextlib
import importlib
import io
import logging
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator

import fastreid.utils.logger
import numpy as np
import torch
from tiny_data import WIDTH

from igoas_plugin.datasets.published import warn_once
from igoas_plugin.engine.log_files import UNWRITABLE
from igoas_plugin.fastreid_fixes.amp import amp_dtype
from igoas_plugin.fastreid_fixes.dense_ranking import RECENT_CMC
from igoas_plugin.fastreid_fixes.device import usable_device, usable_norm

# of a run whose network is not what a test is about; registered by tiny_data, in this process alone
TINY_NETWORK = (
    *("MODEL.BACKBONE.NAME", "build_tiny_backbone", "MODEL.BACKBONE.DEPTH", "tiny"),
    *("MODEL.BACKBONE.FEAT_DIM", str(WIDTH), "MODEL.BACKBONE.PRETRAIN", "False"),
)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
# functions that log a line once in a process, or keep an open log file
LOGGED_ONCE = (warn_once, amp_dtype, usable_device, usable_norm, fastreid.utils.logger.setup_logger)
# what Python ignores by default; pytest shows it
IGNORED = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def run_in_process(command: list[str]) -> subprocess.CompletedProcess:
    """Runs a Python file as `python FILE WORD ...` does, and undoes what it leaves behind in the process.

    Args:
        command: the file and its words.

    Returns:
        Exit code and output, of child processes too.
    """
    command = [str(word) for word in command]
    with captured() as output, fresh_process_state(command):
        try:
            runpy.run_path(command[0], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code or 0
            if not isinstance(code, int):
                print(code, file=sys.stderr)
                code = 1
        except Exception:
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(command, code, *output)


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Yields a list that gets the text of stdout and of stderr at the end, from C and child processes too."""
    output, kept, before = [], [os.dup(1), os.dup(2)], (sys.stdout, sys.stderr)
    for stream in before:
        stream.flush()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        # one buffer a line, so that what child processes write comes in its turn
        sys.stdout = io.TextIOWrapper(open(1, "wb", 0, closefd=False), "utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(open(2, "wb", 0, closefd=False), "utf-8", "backslashreplace", write_through=True)
        try:
            yield output
        finally:
            sys.stdout, sys.stderr = before
            for number, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            for file in (out, err):
                file.seek(0)
                output.append(file.read().decode(errors="replace"))


@contextlib.contextmanager
def fresh_process_state(command: list[str]) -> Iterator[None]:
    """Gives a tool the state of a new process, and restores the state afterwards."""
    environment, folder = dict(os.environ), os.getcwd()
    argv, path, main = sys.argv, list(sys.path), sys.modules["__main__"]
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    forget()
    sys.argv = command
    sys.path.insert(0, os.path.dirname(os.path.abspath(command[0])))
    try:
        with fresh_loggers(), fresh_warnings():
            yield
    finally:
        forget()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv, sys.path[:], sys.modules["__main__"] = argv, path, main
        for number, handler in handlers.items():
            signal.signal(number, handler)
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        torch.set_rng_state(generators[2])
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn
        if "matplotlib.pyplot" in sys.modules:
            importlib.import_module("matplotlib.pyplot").close("all")


def forget() -> None:
    for function in (*LOGGED_ONCE, fastreid.utils.logger._cached_log_stream):
        function.cache_clear()
    UNWRITABLE.clear()
    RECENT_CMC.clear()


@contextlib.contextmanager
def fresh_loggers() -> Iterator[None]:
    """Removes handlers and levels of the root logger and of fast-reid's loggers, and restores them."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "fastreid"]
    loggers = [logging.getLogger(), *map(logging.getLogger, sorted({"fastreid", *names}))]
    before = [(list(logger.handlers), logger.level, logger.propagate, logger.disabled) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.WARNING if logger is logging.root else logging.NOTSET)
    try:
        yield
    finally:
        for logger, (handlers, level, propagate, disabled) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
            logger.setLevel(level)


@contextlib.contextmanager
def fresh_warnings() -> Iterator[None]:
    """Writes warnings to stderr as Python does by default; pytest would collect them."""

    def show(message, category, filename, lineno, file=None, line=None):
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in IGNORED:
            warnings.simplefilter("ignore", category)
        warnings.showwarning = show
        yield
