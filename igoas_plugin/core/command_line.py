"""Parts that the command lines share: errors and Ctrl-C in one line, log on the console, child processes."""

import contextlib
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from .errors import InputError
from .version import __version__


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


def stop_on_sigterm() -> None:
    """Lets SIGTERM end this process by an exception, as Ctrl-C does: what it has started is stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextlib.contextmanager
def stopped_with_this_process(process: subprocess.Popen) -> Iterator[None]:
    """A context that waits for a process at its end, and asks it to end where an exception leaves the context."""
    try:
        yield
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()


def exit_code(process: subprocess.Popen) -> int:
    """Of a process that has ended; of one that a signal has ended 128 + its number, as a shell gives it."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
