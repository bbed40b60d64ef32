import logging

import pytest


@pytest.fixture
def host_log():
    """Records that reach the host's logger, whether or not the host has set it up."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    host = logging.getLogger("fastreid")
    level = host.level
    host.addHandler(handler)
    host.setLevel(logging.INFO)
    yield records
    host.removeHandler(handler)
    host.setLevel(level)
