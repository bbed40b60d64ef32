"""The processes of a run on this machine: they are started together, and where one fails they end together."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import NamedTuple

from torch.multiprocessing import ProcessRaisedException

from igoas_plugin.core import errors
from igoas_plugin.core.errors import LostProcess, PluginError

CONTINUES = "the run has ended; a training goes on from its last checkpoint with --resume"
LOOK_SECONDS = 0.5  # how soon a signal to this process is passed on
END_SECONDS = 10.0  # for the others to say what they have to say, once one has failed; then they are killed
PR_SET_PDEATHSIG = 1  # of prctl() in Linux' sys/prctl.h


class Report(NamedTuple):
    """The error of a process: the name of its class in errors.py, or "" for any other; its text; its time."""

    error: str
    text: str
    at: float


@dataclass
class Worker:
    """A process, as the one that started it sees it."""

    process: multiprocessing.Process
    reports: connection.Connection
    report: Report | None = None
    ended_at: float | None = None
    killed: bool = False  # by us

    def look(self) -> None:
        """Takes note of what it has said, and of its end."""
        ended = not self.process.is_alive()  # first: what it says, it says before its end
        with contextlib.suppress(EOFError, OSError):  # it ended without a word, or in the middle of one
            while not self.reports.closed and self.reports.poll():
                self.report = self.reports.recv()
        if ended and self.ended_at is None:
            self.ended_at = time.time()
            self.reports.close()

    def kill(self) -> None:
        if self.process.is_alive():
            self.killed = True
            self.process.kill()

    @property
    def failed(self) -> bool:
        return self.ended_at is not None and self.process.exitcode != 0


@dataclass
class Requests:
    """Signals that asked this process to end, in their order."""

    signals: list[int] = field(default_factory=list)

    @property
    def impatient(self) -> bool:
        """Whether Ctrl-C was pressed again."""
        return self.signals.count(signal.SIGINT) > 1


def run_together(target: Callable, count: int, args: tuple = ()) -> None:
    """Runs ``target(i, *args)`` in `count` new processes, and waits for all of them.

    Where one fails, the others have END_SECONDS to end too, then they are killed. They are killed with this process,
    however it ends (on Linux). SIGTERM, or Ctrl-C, is passed on to all of them once, as SIGTERM, and it is they who
    decide what to do then; a second Ctrl-C kills them. They take no notice of the Ctrl-C of a terminal, which reaches
    every process of it.

    Raises:
        PluginError: the first one that a process raised, but a LostProcess only where no other error explains it.
        LostProcess: a process was killed.
        ProcessRaisedException: a process raised another exception; its traceback is in the text.
        SystemExit: a process ended itself, or was asked to by a signal.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[Worker] = []
    with requests_to_end() as requests:
        try:
            for index in range(count):
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=work, args=(target, index, args, sender, os.getpid()))
                process.start()
                sender.close()
                workers.append(Worker(process, receiver))
            watch(workers, requests)
        finally:
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.process.join()
    conclude(workers, requests)


def work(target: Callable, index: int, args: tuple, reports: connection.Connection, parent: int) -> None:
    """What a new process does: it runs `target`, and says in the end what was wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    try:
        target(index, *args)
    except PluginError as error:
        reports.send(Report(type(error).__name__, str(error), time.time()))
        sys.exit(error.exit_code)
    except Exception:
        reports.send(Report("", traceback.format_exc(), time.time()))
        sys.exit(1)


def end_with_parent(parent: int | None = None) -> None:
    """Lets Linux kill this process when the one that started it ends, however that may be.

    Args:
        parent: number of that process, where it is known: it may have ended before.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def requests_to_end() -> Iterator[Requests]:
    """Collects SIGTERM and SIGINT in place of what they would do; in a thread that cannot, they do what they did."""
    requests = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    before = {
        number: signal.signal(number, lambda number, _: requests.signals.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(workers: list[Worker], requests: Requests) -> None:
    """Waits until all processes have ended, and sees to it that they do."""
    passed_on, deadline = False, None
    while True:
        for worker in workers:
            worker.look()
        alive = [worker for worker in workers if worker.ended_at is None]
        if not alive:
            return
        if requests.signals and not passed_on:
            passed_on = True
            for worker in alive:
                worker.process.terminate()
        # A process that ends because it was asked to leaves time to the others: one may be writing the checkpoint
        failed = [worker for worker in workers if worker.failed and not (passed_on and worker.report is None)]
        if failed and deadline is None:
            deadline = time.monotonic() + END_SECONDS
        if requests.impatient or (deadline is not None and time.monotonic() > deadline):
            for worker in alive:
                worker.kill()
        handles = [handle for worker in alive for handle in (worker.process.sentinel, worker.reports)]
        connection.wait(handles, LOOK_SECONDS)


def conclude(workers: list[Worker], requests: Requests) -> None:
    """Raises what made the processes end, if anything did; see run_together()."""
    failed = [worker for worker in workers if worker.failed]
    failed.sort(key=lambda worker: worker.report.at if worker.report else worker.ended_at)
    for worker in failed:
        if worker.report and worker.report.error not in ("", LostProcess.__name__):
            raise getattr(errors, worker.report.error)(worker.report.text)
    codes = [worker.process.exitcode for worker in failed]
    if requests.signals and failed:
        own = [code for code in codes if code > 0 and code != 128 + signal.SIGTERM]  # not that of what was passed on
        raise SystemExit(own[0] if own else 128 + requests.signals[0])
    for worker in failed:
        index, process, report = workers.index(worker), worker.process, worker.report
        if report and not report.error:
            text = f"\n\n-- Process {index} terminated with the following error:\n{report.text}"
            raise ProcessRaisedException(text, index, process.pid)
        if process.exitcode < 0 and not worker.killed:
            name = {each.value: each.name for each in signal.Signals}.get(number := -process.exitcode, str(number))
            why = ", as the system does where memory runs out" if name == "SIGKILL" else ""
            raise LostProcess(
                f"process {index} of the {len(workers)} on this machine (pid {process.pid}) was ended by signal {name}"
                f"{why}: {CONTINUES}"
            )
    for worker in failed:
        if worker.report:
            raise LostProcess(worker.report.text)
    if failed:
        raise SystemExit(next((code for code in codes if code > 0), 1))
