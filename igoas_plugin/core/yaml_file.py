"""Config files: YAML of plain values, and the files that they name as their _BASE_."""

import os

import yaml

from .errors import InputError, one_line

BASE = "_BASE_"
MOST_BYTES = 2**20  # the largest config of fast-reid has 4 kB


def read_config(path: str, above: tuple[str, ...] = ()) -> dict:
    """Reads a config file and merges its keys over those of its _BASE_, over those of the base of that, and so on.

    A _BASE_ is a local file, named by its path from the folder of the file that names it, or by an absolute path.

    Args:
        path: path of the file.
        above: paths of the configs whose base this is, the first one first.

    Raises:
        FileNotFoundError: the config does not exist.
        InputError: a file is not YAML of plain values or is too large, or a base is missing or leads back to itself.
    """
    content, chain = read_yaml(path), (*above, path)
    base = content.pop(BASE, None)
    if base is None:
        return content
    merged = read_config(base_path(chain, base), chain)
    merge_over(merged, content)
    return merged


def base_path(chain: tuple[str, ...], base) -> str:
    """Returns the path of the _BASE_ that the last file of a chain names; raises InputError if it cannot be read."""
    if not isinstance(base, str):
        raise InputError(f"config file {chain[-1]}: {BASE} {base!r} is no path: name one file")
    path = os.path.normpath(os.path.join(os.path.dirname(chain[-1]), os.path.expanduser(base)))
    if not os.path.isfile(path):
        raise InputError(f"config file {chain[-1]} has a {BASE} that does not exist: {path}")
    if any(os.path.samefile(path, each) for each in chain):
        raise InputError(f"config file {chain[0]}: {BASE} leads back to itself: {' -> '.join([*chain, path])}")
    return path


def read_yaml(path: str) -> dict:
    """Reads the keys of one file with the safe loader of YAML; a bare ON is the key of that name, not True.

    Raises:
        FileNotFoundError: the file does not exist.
        InputError: the file is not YAML of plain values by key, or is larger than 1 MB.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise InputError(f"config file {path} is larger than {MOST_BYTES} bytes: that is no config")
        content = with_key_on(yaml.safe_load(text))
    except (FileNotFoundError, InputError):
        raise
    except OSError as error:
        raise InputError(f"config file {path} cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise InputError(f"config file {path} cannot be read: it is nested too deeply, or holds itself") from None
    except Exception as error:  # PyYAML raises many kinds: of an unknown tag, an impossible date, a missing bracket
        raise InputError(f"config file {path} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"config file {path} does not hold KEY: VALUE lines")
    return content


def with_key_on(node):
    """Returns the same tree with the key "ON" in place of the key True, which YAML reads in a bare ON."""
    if isinstance(node, list):
        return [with_key_on(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {("ON" if key is True else key): with_key_on(value) for key, value in node.items()}


def merge_over(base: dict, keys: dict) -> None:
    """Merges keys into those of a base, where they win."""
    for key, value in keys.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge_over(base[key], value)
        else:
            base[key] = value
