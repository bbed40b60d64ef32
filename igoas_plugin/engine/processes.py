"""Processes of a run on one machine: started together, and ended together if one of them fails."""

import contextlib
import ctypes
import multiprocessing.spawn
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection

from torch.multiprocessing import ProcessRaisedException

from igoas_plugin.core.errors import LostProcess, PluginError
from igoas_plugin.core.extensions import IMPORTED

RESUME_ADVICE = "the run has ended; a training goes on from its last checkpoint with --resume"
POLL_SECONDS = 0.5  # time within which a signal to this process is forwarded
GRACE_SECONDS = 10.0  # time that the other processes have to end after one has failed; then they are killed
PR_SET_PDEATHSIG = 1  # from sys/prctl.h of Linux


@dataclass
class Worker:
    """Process of the run, as seen by the process that started it."""

    process: multiprocessing.Process
    reports: connection.Connection
    error: Exception | None = None  # that the process has raised and sent
    ended: bool = False
    killed: bool = False  # by kill()

    def update(self) -> None:
        """Receives the error of the process, and notes its end."""
        ended = not self.process.is_alive()  # before the error is read, because the process sends it before it ends
        with contextlib.suppress(EOFError, OSError):  # the process ended without an error, or while it sent one
            if self.reports.poll():
                self.error = self.reports.recv()
        self.ended = ended

    def kill(self) -> None:
        """Kills the process if it is alive."""
        if self.process.is_alive():
            self.killed = True
            self.process.kill()

    @property
    def failed(self) -> bool:
        """Whether the process has ended with an exit code other than 0."""
        return self.ended and self.process.exitcode != 0


def run_together(target: Callable, count: int, args: tuple = ()) -> None:
    """Runs ``target(i, *args)`` in `count` new processes, and waits for all of them.

    If one fails, the others have GRACE_SECONDS to end, and are then killed. On Linux they are also killed when this
    process ends in any way. SIGTERM and Ctrl-C are forwarded to all processes once, as SIGTERM; each process decides
    what to do. A second Ctrl-C kills them. They ignore the Ctrl-C of a terminal, which reaches every process of it.

    Raises:
        PluginError: the first one that a process raised; a LostProcess only if no other error explains it.
        LostProcess: a process was killed.
        ProcessRaisedException: a process raised another exception, whose traceback is in the text.
        SystemExit: a process ended itself, or ended after a signal.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[Worker] = []
    with signals_collected() as received:
        try:
            for index in range(count):
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=run_target, args=(target, index, args, sender, os.getpid()))
                with plugin_imported_first():
                    process.start()
                sender.close()
                workers.append(Worker(process, receiver))
            watch(workers, received)
        finally:
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.process.join()
    raise_failure(workers, received)


FIRST = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = {path}
import igoas_plugin.core.extensions
igoas_plugin.core.extensions.import_modules({modules})
"""


class ImportedFirst:
    """Object that imports the plugin, and the modules in IMPORTS, in the process that unpickles it.

    The process ignores the Ctrl-C of a terminal, which reaches every process of it, from then on.
    """

    def __reduce__(self):
        # not by a function of the plugin: the places that Python searches must be set before it is found
        path = [each for each in sys.path if isinstance(each, str)]  # Python ignores the others
        # {}: otherwise the names of FIRST become globals of the module that unpickles
        return exec, (FIRST.format(path=path, modules=list(IMPORTED)), {})


@contextlib.contextmanager
def plugin_imported_first() -> Iterator[None]:
    """Context in which a process that is spawned imports the plugin before it imports the script of the program.

    Python imports that script again in every spawned process. If it imports fast-reid and not the plugin, because the
    plugin was imported by what has run the script, it fails without the plugin.
    """
    prepared = multiprocessing.spawn.get_preparation_data
    # Python unpickles these values first, and ignores those with an unknown name
    multiprocessing.spawn.get_preparation_data = lambda name: {"plugin": ImportedFirst(), **prepared(name)}
    try:
        yield
    finally:
        multiprocessing.spawn.get_preparation_data = prepared


def run_target(target: Callable, index: int, args: tuple, reports: connection.Connection, parent: int) -> None:
    """Runs `target` in a new process; sends its error if it raises."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    try:
        target(index, *args)
    except PluginError as error:
        reports.send(error)
        sys.exit(error.exit_code)
    except Exception:
        text = f"\n\n-- Process {index} terminated with the following error:\n{traceback.format_exc()}"
        reports.send(ProcessRaisedException(text, index, os.getpid()))
        sys.exit(1)


def end_with_parent(parent: int | None = None) -> None:
    """Makes Linux kill this process when the process that started it ends in any way.

    Args:
        parent: process id of that process if it is known; it may have ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def signals_collected() -> Iterator[list[int]]:
    """Context that collects the numbers of SIGTERM and SIGINT, in order, in place of their handlers."""
    received = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(workers: list[Worker], received: list[int]) -> None:
    """Waits until all processes have ended; forwards signals, and kills the rest after a failure."""
    forwarded, deadline = False, None
    while True:
        for worker in workers:
            worker.update()
        alive = [worker for worker in workers if not worker.ended]
        if not alive:
            return
        if received and not forwarded:
            forwarded = True
            for worker in alive:
                worker.process.terminate()
        # a process that ends because of a signal is no failure: another one may still write the checkpoint
        failed = [worker for worker in workers if worker.failed and not (forwarded and worker.error is None)]
        if failed and deadline is None:
            deadline = time.monotonic() + GRACE_SECONDS
        impatient = received.count(signal.SIGINT) > 1  # Ctrl-C was pressed twice
        if impatient or (deadline is not None and time.monotonic() > deadline):
            for worker in alive:
                worker.kill()
        handles = [handle for worker in alive for handle in (worker.process.sentinel, worker.reports)]
        connection.wait(handles, POLL_SECONDS)


def raise_failure(workers: list[Worker], received: list[int]) -> None:
    """Raises the error that ended the processes, if there is one: see run_together()."""
    failed = [worker for worker in workers if worker.failed]
    errors = [worker.error for worker in failed if worker.error]
    explaining = [error for error in errors if not isinstance(error, LostProcess)]
    of_plugin = [error for error in explaining if not isinstance(error, ProcessRaisedException)]
    if of_plugin:
        raise of_plugin[0]
    codes = [worker.process.exitcode for worker in failed]
    if received and failed:
        own = [code for code in codes if code > 0 and code != 128 + signal.SIGTERM]  # without that of the forwarded one
        raise SystemExit(own[0] if own else 128 + received[0])
    if explaining:
        raise explaining[0]
    for number, worker in enumerate(workers):
        if worker.process.exitcode < 0 and not worker.killed:
            name = signal.Signals(-worker.process.exitcode).name
            why = ", as the system does where memory runs out" if name == "SIGKILL" else ""
            raise LostProcess(
                f"process {number} of the {len(workers)} on this machine (pid {worker.process.pid}) was ended by "
                f"signal {name}{why}: {RESUME_ADVICE}"
            )
    if errors:
        raise errors[0]
    if failed:
        raise SystemExit(next((code for code in codes if code > 0), 1))
