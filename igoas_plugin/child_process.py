"""A process that this one has started ends with it, and not alone: a training writes a checkpoint first."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator


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
