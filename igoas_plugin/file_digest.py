"""SHA-256 of files, and notes of it as sha256sum writes them."""

import hashlib
import re
from pathlib import Path

from .regular_file import open_regular


def sha256_of(path: Path) -> str:
    """64 hexadecimal digits, in lower case."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def is_digest(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def noted_digest(note: Path) -> str:
    """The digest of a note; "" where there is no note, and a text that no digest begins with where it is damaged."""
    if not note.exists():
        return ""
    word = next(iter(note.read_text(errors="replace").split()), "")
    return word if is_digest(word) else "nothing that can be read"
