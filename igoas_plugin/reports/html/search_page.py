"""Page with the answers of a search."""

import os

from igoas_plugin.core.errors import UnreadableImage, printable
from igoas_plugin.core.files import write_atomically
from igoas_plugin.inference.search.answers import Answers, Match

from .page import render
from .thumbnails import Thumbnail, thumbnail


def write_page(answers: Answers, path: str) -> None:
    """Writes a page with the queries and their matches; the pictures are inside it.

    Raises:
        InputError: a query cannot be read any more.
        OutputError: the page cannot be written.
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
    write_atomically(path, lambda file: file.write(page))


def picture_of(match: Match, folder: str) -> Thumbnail | None:
    """Returns the picture of a match; None if its file is gone."""
    try:
        return thumbnail(os.path.join(folder, match.path), alt=f"match {match.rank}: {printable(match.path)}")
    except UnreadableImage:
        return None
