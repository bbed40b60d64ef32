import os

from ..errors import InputError, UnreadableImage
from ..host.checkpoints import write_atomically
from ..pages.printable import printable
from ..pages.render import render
from ..pages.thumbnails import Thumbnail, thumbnail
from .answers import Answers, Match


def write_page(answers: Answers, path: str) -> None:
    """Writes a page with the pictures of the queries and of what was found; it needs no other file.

    Raises:
        InputError: a query cannot be read any more, or the page cannot be written.
    """
    rows = [
        (
            query,
            thumbnail(query, alt=f"query {printable(query)}"),
            [(match, picture_of(match, answers.folder)) for match in matches],
        )
        for query, matches in answers.matches
    ]
    page = render(
        "search.html",
        index=answers.index,
        folder=answers.folder,
        kind=answers.kind,
        images=answers.images,
        answers=rows,
    )
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        write_atomically(path, lambda file: file.write(page))
    except OSError as error:
        raise InputError(f"cannot write {os.path.abspath(path)}: {error.strerror or error}") from None


def picture_of(match: Match, folder: str) -> Thumbnail | None:
    """None where the crop is gone by now."""
    try:
        return thumbnail(os.path.join(folder, match.path), alt=f"match {match.rank}: {printable(match.path)}")
    except UnreadableImage:
        return None
