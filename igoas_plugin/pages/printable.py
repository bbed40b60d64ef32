def printable(text: str) -> str:
    r"""A file name, or a line with one, as one line that any terminal and any page can show.

    What is not printable (line ends, bytes that are no UTF-8, marks that turn the direction of writing) is shown by its
    escape sequence.

    Example:
        >>> printable("crops/a\nb é.jpg")
        'crops/a\\nb é.jpg'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
