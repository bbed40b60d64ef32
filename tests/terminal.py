"""A terminal for tests, in place of sys.stdout."""

import importlib
import io
import os
import re
import sys
from contextlib import contextmanager
from unittest import mock

import termcolor.termcolor

COLOURS = ("NO_COLOR", "FORCE_COLOR", "ANSI_COLORS_DISABLED")  # each overrules the terminal


class Console(io.StringIO):
    def __init__(self, isatty: bool):
        super().__init__()
        self.isatty = lambda: isatty

    def screen(self) -> list[str]:
        """Returns the lines as a person sees them; text after a carriage return overwrites the line."""
        rows = []
        for line in re.sub(r"\x1b\[[\d;]*m", "", self.getvalue()).split("\n"):
            row = ""
            for text in line.split("\r"):
                row = text + row[len(text) :]
            rows.append(row.rstrip())
        return rows


@contextmanager
def console(isatty: bool = True, **environment: str):
    """Puts a Console in place of sys.stdout, and only the given variables about colours into the environment."""
    kept = {name: value for name, value in os.environ.items() if name not in COLOURS}
    with mock.patch.dict(os.environ, {**kept, "TERM": "xterm", **environment}, clear=True):
        with mock.patch.object(sys, "stdout", Console(isatty)):
            importlib.reload(termcolor.termcolor)  # it remembers what it found
            yield sys.stdout
    importlib.reload(termcolor.termcolor)
