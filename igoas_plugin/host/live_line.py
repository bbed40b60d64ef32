"""A line at the bottom of the terminal that is written over again and again."""

import logging
import shutil
import sys

from tqdm import tqdm

FOR_FILES = {"for_files": True}  # `extra` of a log record that the live line stands for on a terminal


class LiveLine(logging.Filter):
    """Shares the terminal with a handler of the host's logger: it goes away before each record of that is written.

    Args:
        handler: writes to a terminal.
    """

    def __init__(self, handler: logging.StreamHandler):
        super().__init__()
        self.handler = handler
        # for some terminals say that they have no columns and rows, and tqdm then draws nothing; show() makes it fit
        self.line = tqdm(bar_format="{desc}", file=handler.stream, leave=False, ncols=1000, nrows=20)
        handler.addFilter(self)

    def show(self, text: str) -> None:
        columns = shutil.get_terminal_size().columns
        self.line.set_description_str(text[: columns - 1])  # a longer one would begin a new line each time

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "for_files", False):
            return False
        self.line.clear()
        return True

    def close(self) -> None:
        self.handler.removeFilter(self)
        self.line.close()


def live_line() -> LiveLine | None:
    """A new one; None where what the host logs does not go to a terminal."""
    for handler in logging.getLogger("fastreid").handlers:
        if getattr(handler, "stream", None) is sys.stdout and sys.stdout.isatty():
            return LiveLine(handler)
    return None
