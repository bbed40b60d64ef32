"""Nonsensical KEY VALUE pairs of a command line."""

from pathlib import Path

from hostile import Target
from hypothesis import strategies as st

from igoas_plugin import get_cfg
from igoas_plugin.config import flat_keys, load_cfg, value_of
from igoas_plugin.preflight import check_settings

DEFAULTS = get_cfg()
KEYS = sorted(flat_keys(DEFAULTS))
VALUES = (
    *("", " ", "None", "True", "x", "nan", "inf", "-inf", "1e400", "1e-400", "-1", "0", "1", "2", "0.5", "-0.0", "1j"),
    *("2147483648", "1000000000000000", "-1000000000000000", "9" * 5000, "1e15", "0x10", "1_0", "[]", "()", "{}"),
    *(
        "['x']",
        "('a', 'b')",
        "(0, 0)",
        "[1, 2]",
        "[-1, 1e9]",
        "[None]",
        "[[1]]",
        "{'a': 1}",
        "{1: 2}",
        "{1, 2}",
        "b'x'",
    ),
    "1" + "0" * 400,
    *("(" * 200, "[" * 5000, "1+" * 3000 + "1", "a" * 5000, "\0", "a\0b", "\n", "a\nb", "é人", "\udcff", "$(x)", "{0}"),
    *("__import__('os').system('touch x')", "lambda: 0", "../../..", "/dev/null", "/proc/self/mem", "/", "~", "%s%s"),
)
numbers = st.one_of(st.integers(-3, 70), st.floats(-2, 2), st.floats(allow_nan=True)).map(str)
lists = st.lists(st.one_of(st.integers(-3, 600), st.floats(-1, 300)), max_size=4).map(str)


def of_the_type(key: str) -> st.SearchStrategy[str]:
    """Returns a strategy for values of the right type for a key, including its default."""
    default = value_of(DEFAULTS, key)
    own = {bool: st.sampled_from(["True", "False"]), str: st.text(max_size=8), list: lists, tuple: lists}
    return st.one_of(st.just(str(default)), own.get(type(default), numbers))


def pairs_of(keys: list[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Returns a strategy for up to four pairs of these keys."""

    def values(key: str) -> st.SearchStrategy[tuple[str, str]]:
        return st.tuples(st.just(key), st.one_of(of_the_type(key), st.sampled_from(VALUES), numbers, lists))

    return st.lists(st.sampled_from(keys).flatmap(values), min_size=1, max_size=4)


strange_keys = st.one_of(
    st.text(max_size=12), st.sampled_from(["MODEL", "MODEL.", ".", "..", "", "A=B", "\0", "\udcff"])
)
cases = st.one_of(
    pairs_of(KEYS),
    pairs_of(KEYS),
    st.lists(st.tuples(strange_keys, st.sampled_from(VALUES)), min_size=1, max_size=2),
)


def put(case: list, folder: Path) -> list[str]:
    return ["OUTPUT_DIR", str(folder / "run"), *(word for pair in case for word in pair)]


def use(words: list[str]) -> None:
    check_settings(load_cfg("", words))


TARGET = Target(cases, put, use)
