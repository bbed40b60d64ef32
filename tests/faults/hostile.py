"""What hostile input must come to: a result or an error of the plugin, in time, in little memory, without a trace."""

import contextlib
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from igoas_plugin.core.errors import InputError

MEGABYTES = 1000  # by which the memory of the process may grow in one case


class Target(NamedTuple):
    """A part of the plugin that reads what others made.

    Args:
        cases: what may come.
        put: `put(case, folder)` makes the input and returns what `use` takes.
        use: `use(subject)` has the plugin read it; AssertionError where the result is not sound.
        seconds: of the processor that `use` may take; ten times that of the clock, for a busy machine.
        writes: whether `use` is to leave a file.
    """

    cases: SearchStrategy
    put: Callable[[Any, Path], Any]
    use: Callable[[Any], object]
    seconds: float = 10
    writes: bool = False


class TooLong(BaseException):
    """A case took longer than it may; no Exception, or the part that is tried would catch it."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def stop(*_):
        raise TooLong(f"after {seconds} s of the processor, or ten times that of the clock")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, seconds), signal.ITIMER_REAL: (signal.SIGALRM, 10 * seconds)}
    before = {number: signal.signal(number, stop) for number, _ in timers.values()}
    for timer, (_, limit) in timers.items():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer, (number, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def outcome(target: Target, case) -> str:
    """ "result" or "own error"; any other end of a case is an exception.

    Raises:
        TooLong: it took too long.
        AssertionError: the result is not sound, the error is no single line, a file was left, or it took too much
            memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        subject = target.put(case, Path(folder))
        files, memory = everything_in(folder), peak_megabytes()
        try:
            with time_limit(target.seconds):
                target.use(subject)
            ended = "result"
        except InputError as error:
            assert str(error) and "\n" not in str(error).strip("\n"), f"no single line: {error}"
            ended = "own error"
        assert target.writes or everything_in(folder) == files, "it left or removed a file"
        grown = peak_megabytes() - memory
        assert grown < MEGABYTES, f"it took {grown:.0f} MB"
        return ended


def everything_in(folder: str) -> set[str]:
    return {str(path) for path in Path(folder).rglob("*")}


def every_case(target: Target, count: int, start: int, see: Callable[[Any], None]) -> None:
    """Calls `see` with `count` cases of a target, which the seed `start` determines."""

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.cases)
    def each(case):
        see(case)

    each()


def in_suite(target: Target, examples: int):
    """Returns a function that tries the same `examples` cases of a target every time and makes one that fails small."""

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.cases)
    def test(case):
        outcome(target, case)

    return test
