import functools
import logging
import re
import sys

from fastreid.utils.logger import setup_logger as setup_logger_on_host

from .fix import fix, replace_everywhere

COLOUR = re.compile(r"\x1b\[[\d;]*m")


class WithoutColours(logging.Formatter):
    """Writes what another formatter makes of a record, without the codes of colours.

    Args:
        formatter: of the host.
    """

    def __init__(self, formatter: logging.Formatter):
        super().__init__()
        self.formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return COLOUR.sub("", self.formatter.format(record))


@functools.lru_cache  # as the host's
def setup_logger(*args, name="fastreid", **kwargs) -> logging.Logger:
    """The host's; only a terminal gets colours."""
    before = list(logging.getLogger(name).handlers)
    logger = setup_logger_on_host.__wrapped__(*args, name=name, **kwargs)
    for handler in logger.handlers:
        if handler not in before and not (handler.stream is sys.stdout and sys.stdout.isatty()):
            handler.setFormatter(WithoutColours(handler.formatter))
    return logger


@fix
def keep_colours_to_the_terminal() -> None:
    """On a terminal, log.txt gets the codes of its colours: the host colours tables before it logs them.

    The same in the log of every other process; and where FORCE_COLOR is set, in a file that the console goes to.
    """
    replace_everywhere(setup_logger_on_host, setup_logger)
