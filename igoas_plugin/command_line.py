"""What the tools have in common: errors in one line, and the log of the host on the console."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from . import __version__
from .errors import InputError


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """A context in which a mistake of the user, an InputError, ends the process in one line and with exit code 2."""
    try:
        yield
    except InputError as error:
        print(f"igoas_plugin {__version__}: {error}", file=sys.stderr)
        sys.exit(2)


def log_to_console() -> None:
    """Shows what the host and the plugin log, without time and name, on stderr."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fastreid").setLevel(logging.INFO)
