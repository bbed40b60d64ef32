"""A config file and the files that it names as _BASE_: YAML of plain values, from one tree of folders."""

import os
import re
from pathlib import Path

import yaml

from .errors import InputError

BASE = "_BASE_"
MOST_BYTES = 2**20  # the largest config of the host has 4 kB
MOST_VALUES = 10_000  # keys and values, each counted where it is named by an alias too; the largest config has some 300
DEEPEST = 50  # nested keys; the deepest config has 5
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # not the drive of a path of Windows, which is one letter
# of the plugin itself, where it is used from its checkout
OWN_TREE = [folder for folder in Path(__file__).resolve().parents[2:3] if (folder / "configs/Base-IGOAS.yml").is_file()]


def read_config(path: str) -> dict:
    """The keys of a config file, over those of its _BASE_, over those of the base of that, and so on.

    A base is a file in the tree of folders that the config lies in, or in the checkout of this plugin; links in its
    path are followed before that is looked at. The tree is the git checkout that the config lies in; outside one, the
    folder that holds the nearest folder ``configs`` around it; else the folder above its own.

    Args:
        path: of the config; a _BASE_ is named by its path from the folder of the file that names it.

    Raises:
        FileNotFoundError: there is no such config.
        InputError: a file is not YAML of plain values, or a huge one; a base is missing, lies outside the tree, is an
            address, or leads back to itself.
    """
    trees = [tree_of(path), *OWN_TREE]
    chain, contents = [], []  # of files, the config first
    while path:
        chain.append(path)
        content = read_yaml(path)
        base = content.pop(BASE, None)
        contents.append(content)
        path = None if base is None else base_path(chain, base, trees)
    merged = contents.pop()
    for content in reversed(contents):
        merge_over(merged, content, chain[0])
    return merged


def tree_of(path: str) -> Path:
    """The tree of folders in which a config may name a base."""
    folder = Path(os.path.abspath(path)).parent.resolve()
    around = [folder, *folder.parents]
    if checkout := next((each for each in around if (each / ".git").exists()), None):
        return checkout
    return next((each.parent for each in around if each.name == "configs"), folder.parent)


def is_path(word: str) -> bool:
    """Whether the system takes a word for a path: not an empty one, with a NUL, or with half a character in it."""
    try:
        return bool(word) and b"\0" not in os.fsencode(word)
    except UnicodeEncodeError:
        return False


def base_path(chain: list[str], base, trees: list[Path]) -> str:
    """Where the _BASE_ of the last file of a chain is; raises InputError where it may not be read."""
    where = f"config file {chain[-1]}: {BASE} {base!r}"
    if not isinstance(base, str) or not is_path(base):
        raise InputError(f"{where} is no path: name one file")
    if ADDRESS.match(base):
        raise InputError(f"{where} is no local file, and nothing is fetched: download it, read it, and name the copy")
    path = os.path.normpath(os.path.join(os.path.dirname(chain[-1]), os.path.expanduser(base)))
    target = Path(os.path.realpath(path))
    if not any(target.is_relative_to(tree) for tree in trees):
        raise InputError(f"{where} leads to {target}, out of {trees[0]}: copy it there, or move the config beside it")
    if any(os.path.samefile(path, each) for each in chain if os.path.exists(path)):
        raise InputError(f"config file {chain[0]}: {BASE} leads back to itself: {' -> '.join([*chain, path])}")
    if not os.path.isfile(path):
        raise InputError(f"config file {chain[0]} has a {BASE} that does not exist: {path}")
    return path


def read_yaml(path: str) -> dict:
    """The keys of one file, by the safe loader of YAML; a bare ON is the key of that name, not True.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is anything but keys with plain values, or a huge one.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise InputError(f"config file {path} is larger than {MOST_BYTES} bytes: that is no config")
        require_small(path, text)
        content = yaml.safe_load(text)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"config file {path} cannot be read: {error.strerror or error}") from None
    except InputError:
        raise
    except Exception as error:  # whatever YAML meets in a file: a tag that it does not know, a date that cannot be
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, yaml.constructor.ConstructorError) and "python/" in reason:
            reason = f"a tag that would run Python is refused: {reason}"
        raise InputError(f"config file {path} cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise InputError(f"config file {path} does not hold KEY: VALUE lines")
    return named(content)


def require_small(path: str, text: str) -> None:
    """Raises InputError where a YAML text would become a huge or an endless value, by nesting or by its aliases."""
    sizes, opened = {}, [["", 0]]  # values in what an anchor names; anchor and values of what is open, outermost first
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in [anchor for anchor, _ in opened]:
                raise InputError(f"config file {path} is refused: *{event.anchor} in it holds itself")
            opened[-1][1] += sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = 1
            opened[-1][1] += 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append([event.anchor, 1])
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = opened.pop()
            sizes[anchor] = size
            opened[-1][1] += size
        if len(opened) > DEEPEST + 1:
            raise InputError(f"config file {path} is refused: its keys are nested more than {DEEPEST} deep")
        if sum(size for _, size in opened) > MOST_VALUES:
            raise InputError(
                f"config file {path} is refused: it has more than {MOST_VALUES} values, aliases counted in"
            )


def named(node):
    """The same tree with the key True called "ON"."""
    if not isinstance(node, dict):
        return node
    return {("ON" if key is True else key): named(value) for key, value in node.items()}


def merge_over(base: dict, keys: dict, path: str) -> None:
    """Puts keys into those of a base, where they win; raises InputError where a section would replace a value."""
    for key, value in keys.items():
        if isinstance(value, dict) and key in base:
            if not isinstance(base[key], dict):
                raise InputError(f"config file {path}: {key} holds other keys, and is a value in its {BASE}")
            merge_over(base[key], value, path)
        else:
            base[key] = value
