"""Rules for hostile input: a result or an error of the plugin, in time, in little memory, without files left over."""

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

MEGABYTES = 1000  # largest growth of the process in one case


class Target(NamedTuple):
    """Part of the plugin that reads foreign input.

    Args:
        cases: strategy that draws inputs.
        put: `put(case, folder)` writes an input and returns the argument of `use`.
        use: `use(subject)` reads the input with the plugin; raises AssertionError if the result is wrong.
        seconds: processor time that `use` may take; the wall clock may take ten times as long.
        writes: whether `use` leaves a file.
    """

    cases: SearchStrategy
    put: Callable[[Any, Path], Any]
    use: Callable[[Any], object]
    seconds: float = 10
    writes: bool = False


class TooLong(BaseException):
    """Case that took too long; not an Exception, so that the tested code cannot catch it."""


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
    """Returns "result" or "own error"; any other end of a case raises.

    Raises:
        TooLong: the case took too long.
        AssertionError: the result is wrong, the error has several lines, a file was left, or memory grew too much.
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
    """Calls `see` with `count` cases of a target; the seed `start` determines them."""

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
    """Returns a test of `examples` cases, the same every time, that shrinks a failing case."""

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
