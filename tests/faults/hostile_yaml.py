"""Config files that are torn, foreign or malicious."""

import functools
from pathlib import Path

import yaml
from hostile import Target
from hostile_overrides import KEYS, VALUES
from hypothesis import strategies as st

from igoas_plugin.config import load_cfg

CONFIGS = Path(__file__).parents[2] / "configs"
HARMFUL = (
    "!!python/object/apply:os.system ['touch harm']",
    "MODEL: !!python/object/new:os.system ['touch harm']",
    "SEED: !!python/object/apply:time.sleep [600]",
    "_BASE_: !!python/object/apply:os.system ['touch harm']",
    "_BASE_: config.yml",
    "_BASE_: [config.yml]",
    "_BASE_: .",
    "_BASE_: /dev/null",
    "_BASE_: ''",
    "_BASE_: 3",
    '_BASE_: "a\\0b"',
    "&a [*a]",
    "MODEL: &a {HEADS: *a}",
    "&a {MODEL: *a}",
    "MODEL: {<<: {DEVICE: cpu}}",
    "MODEL:\n  DEVICE: cpu\nMODEL:\n  DEVICE: 3",
    "? [a, b]\n: 1",
    "? {a: 1}\n: 1",
    "1: 2",
    "null: 2",
    "MODEL: 2001-01-01",
    "SEED: 2001-01-01",
    "SEED: 1e999999999",
    "SEED: " + "9" * 5000,
    "SEED: 0o17",
    "SEED: 190:20:30",
    "OUTPUT_DIR: !!binary AAAA",
    "OUTPUT_DIR: !!set {a, b}",
    "MODEL.DEVICE: cpu",
    "MODEL: {DEVICE: {A: {B: 1}}}",
    "MODEL: {DEVICE: }",
    "MODEL: 1",
    "MODEL: []",
    "MODEL: {}",
    "--- {}\n--- {}",
    "%YAML 9.9\n--- {}",
    "{" * 3000,
    "[" * 3000,
    "- " * 3000,
    "a: " * 300,
    "\ufeffSEED: 1",
    "\t",
    "<html>404</html>",
    "\x1f\x8b\x08",
)
values = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.dates()),
        *(st.binary(max_size=9), st.sampled_from(VALUES)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)


def tree(pairs: list[tuple[str, object]]) -> dict:
    root = {}
    for key, value in pairs:
        node, (*sections, last) = root, key.split(".")
        for section in sections:
            node = node.setdefault(section, {}) if isinstance(node.get(section, {}), dict) else {}
        node[last] = value
    return root


@functools.cache
def published() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(CONFIGS.rglob("*.yml")))


def spliced(which: int, start: float, count: int, new: bytes) -> bytes:
    content = published()[which % len(published())]
    at = int(start * len(content))
    return content[:at] + new + content[at + count :]


keys = st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS).map(lambda key: key.rpartition(".")[0] or key), st.text())
cases = st.one_of(
    st.sampled_from(HARMFUL).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=60),
    st.text(st.characters(codec="utf-8"), max_size=60).map(str.encode),
    st.lists(st.tuples(keys, values), max_size=4).map(lambda pairs: yaml.dump(tree(pairs)).encode()),
    st.builds(spliced, st.integers(0, 99), st.floats(0, 1), st.integers(0, 40), st.binary(max_size=6)),
    st.builds(
        spliced,
        st.integers(0, 99),
        st.floats(0, 1),
        st.integers(0, 9),
        st.sampled_from([b":", b"\n", b" ", b"{", b"&a ", b"*a", b"!!x "]),
    ),
)


def put(case: bytes, folder: Path) -> str:
    for base in CONFIGS.glob("*.yml"):  # the published configs name them by ../
        (folder / base.name).symlink_to(base)
    (folder / "in").mkdir()
    path = folder / "in" / "config.yml"
    path.write_bytes(case)
    return str(path)


def use(path: str) -> None:
    load_cfg(path)


TARGET = Target(cases, put, use)
