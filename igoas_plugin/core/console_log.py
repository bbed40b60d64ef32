"""Log records on the console: which ones are shown, and in which form. Log files get all of them."""

import functools
import importlib.util
import logging
import os
import sys

from termcolor import colored

FILES_ONLY = {"files_only": True}  # `extra` of a record that log files get and the console does not
WIDTH = 100  # columns of a line on a console that is no terminal
PROGRESS_SECONDS = 300.0  # time between two lines about one evaluation
COLOURS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


def on_console(text: str) -> dict[str, str]:
    """Returns the `extra` of a record of which the console shows this text, and files the message."""
    return {"console": text}


def row(name: str, text: str) -> str:
    """Returns a line of the console: a name in a column of its own, then a text."""
    return f"{name:<10}  {text}"


@functools.cache
def folder_of_fastreid() -> str:
    """Returns the folder of fast-reid's own files, with a separator at its end."""
    return os.path.join(next(iter(importlib.util.find_spec("fastreid").submodule_search_locations)), "")


def is_from_fastreid(record: logging.LogRecord) -> bool:
    """Returns whether a file of fast-reid made a record, rather than the plugin or a project with a logger below."""
    if not record.pathname.startswith(folder_of_fastreid()):
        return False
    # log_first_n() and its like stand in for their caller, whose module they name
    helper = record.funcName.startswith("log_")
    return not helper or record.name.split(".")[0] == "fastreid" and record.name in sys.modules


class ConsoleFilter(logging.Filter):
    """Filter that keeps off the console what fast-reid itself reports: environment, configs, the model, many notes.

    Warnings and errors pass. So does every record of the plugin and of a project, unless it has FILES_ONLY. Of an
    evaluation that takes long, a line passes about every five minutes.
    """

    def __init__(self):
        super().__init__()
        self._next = 0.0  # time of the next line about an evaluation, in seconds since the epoch of the clock

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "files_only", False):
            return False
        if record.levelno >= logging.WARNING or not is_from_fastreid(record):
            return True
        if record.funcName == "inference_on_dataset":  # an evaluation begins or ends
            self._next = record.created + PROGRESS_SECONDS
        if record.funcName != "log_every_n_seconds" or record.created < self._next:
            return False
        self._next = record.created + PROGRESS_SECONDS
        return True


class ConsoleFormatter(logging.Formatter):
    """Formatter without time and name, which files have; a warning and an error begin with that word."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = getattr(record, "console", record.message)
        if colour := COLOURS.get(record.levelno):
            return f"{colored(record.levelname, colour)}: {text}"
        return text
