"""Parts that the command lines share: errors and Ctrl-C in one line, log on the console, child processes."""

import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from .errors import PluginError
from .version import __version__


@contextmanager
def errors_in_one_line(interrupted: str = "interrupted") -> Iterator[None]:
    """Ends the process with one line and the error's exit code where the context raises a PluginError.

    Args:
        interrupted: line that is printed on Ctrl-C, which ends the process with exit code 130.
    """
    try:
        yield
    except PluginError as error:
        end_failed(error)
    except KeyboardInterrupt:
        end_interrupted(interrupted)


def end_failed(error: PluginError, silent: bool = False) -> NoReturn:
    """Prints the line of an error, unless `silent`, and ends the process with the error's exit code."""
    if not silent:
        print(f"igoas_plugin {__version__}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def end_interrupted(line: str = "interrupted") -> NoReturn:
    """Prints a line and ends the process with exit code 130, as after Ctrl-C."""
    print(line, file=sys.stderr)
    sys.exit(128 + signal.SIGINT)


def log_to_console() -> None:
    """Prints the log of fast-reid and the plugin to stderr, without time and name."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fastreid").setLevel(logging.INFO)


def stop_on_sigterm() -> None:
    """Makes SIGTERM end this process by an exception, as Ctrl-C does, so that its child processes are stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextmanager
def stopped_with_this_process(process: subprocess.Popen) -> Iterator[None]:
    """Waits for a process at the end of the context, and terminates it first where the context raises."""
    try:
        yield
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()


def exit_code(process: subprocess.Popen) -> int:
    """Returns the exit code of an ended process as a shell does: 128 + the number where a signal ended it."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
