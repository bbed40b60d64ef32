"""What the tools have in common: errors and Ctrl-C in one line, and the log of the host on the console."""

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from . import __version__
from .errors import InputError


@contextmanager
def errors_in_one_line(interrupted: str = "interrupted") -> Iterator[None]:
    """A context in which a mistake of the user, an InputError, ends the process in one line and with exit code 2.

    Args:
        interrupted: what Ctrl-C ends it with, as a line; the exit code is 130 then.
    """
    try:
        yield
    except InputError as error:
        print(f"igoas_plugin {__version__}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        end_interrupted(interrupted)


def end_interrupted(told: str = "interrupted") -> NoReturn:
    """Ends the process after Ctrl-C, in one line."""
    print(told, file=sys.stderr)
    sys.exit(128 + signal.SIGINT)


def log_to_console() -> None:
    """Shows what the host and the plugin log, without time and name, on stderr."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fastreid").setLevel(logging.INFO)
