"""Parts that the command lines share: errors and Ctrl-C in one line, log on the console, child processes."""

import itertools
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from .console_log import ConsoleFilter, ConsoleFormatter
from .errors import PluginError
from .version import __version__

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def is_command_line() -> bool:
    """Returns whether this process is a file of tools/ or ``python -m igoas_plugin.cli.NAME``; False in workers."""
    folder, file = os.path.split(os.path.abspath(sys.argv[0]))
    if folder == os.path.join(os.path.dirname(PACKAGE), "tools"):
        return file == "benchmark.py" or os.path.isfile(os.path.join(PACKAGE, "cli", file))
    return any(a == "-m" and b.startswith("igoas_plugin.cli.") for a, b in itertools.pairwise(sys.orig_argv))


def end_at_ctrl_c() -> None:
    """Makes Ctrl-C end a command line with one line and exit code 130, until handle_ctrl_c() is called.

    It is for the seconds of its imports. No exception is raised, because a library that is being imported may turn it
    into another one. Nothing is changed in other programs that import the package.
    """
    if is_command_line() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)


def end_at_once(*_) -> NoReturn:
    """Handler of SIGINT: prints a line and ends the process."""
    os.write(2, b"interrupted\n")
    os._exit(128 + signal.SIGINT)


def handle_ctrl_c() -> None:
    """Makes Ctrl-C raise a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def errors_in_one_line(interrupted: str = "interrupted") -> Iterator[None]:
    """Ends the process with one line and the error's exit code where the context raises a PluginError.

    Also, stdout writes the characters that its encoding lacks as escape sequences.

    Args:
        interrupted: line that is printed on Ctrl-C, which ends the process with exit code 130.
    """
    handle_ctrl_c()
    escape_what_cannot_be_encoded()
    try:
        yield
    except PluginError as error:
        end_failed(error)
    except KeyboardInterrupt:
        end_interrupted(interrupted)


def escape_what_cannot_be_encoded() -> None:
    """Makes stdout write the characters that its encoding lacks as escape sequences, as stderr always does."""
    if hasattr(sys.stdout, "reconfigure"):  # not in a notebook, whose encoding lacks none
        sys.stdout.reconfigure(errors="backslashreplace")


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
    """Prints the log of the plugin to stderr, and the warnings of fast-reid, without time and name."""
    handler = logging.StreamHandler()
    handler.setFormatter(ConsoleFormatter())
    handler.addFilter(ConsoleFilter())
    logging.basicConfig(handlers=[handler])
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
