"""One test over a table of cases: what fails is collected under the name of its case."""

from contextlib import contextmanager

import pytest


class Failures(list):
    """Failures of a table; a test ends by ``assert failures == []``."""

    @contextmanager
    def of(self, case):
        """Collects what fails inside the block under the name of a case."""
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:
            self.append(f"{case}: {type(error).__name__}: {error}")
