import logging
from collections import OrderedDict

import pytest
from fastreid.evaluation.testing import print_csv_format
from fastreid.utils.logger import setup_logger
from terminal import console


def log_a_table(folder, rank=0):
    """Logs fast-reid's table of metrics, which it colours itself, and a warning."""
    setup_logger(str(folder), distributed_rank=rank)
    print_csv_format(OrderedDict({"dataset": "Toy", "mAP": 1.0}))
    logging.getLogger("fastreid.project").warning("no metric")


@pytest.mark.parametrize("rank, name", [(0, "log.txt"), (1, "log.txt.rank1")])
def test_a_log_file_has_no_colours_though_the_terminal_has(tmp_path, raw_host, rank, name):
    assert "\x1b[36m" in raw_host["log_file_of_a_table_on_a_terminal"]
    with console() as terminal:
        log_a_table(tmp_path, rank)
    log = (tmp_path / name).read_text()
    assert "| Toy       | 1.00  |" in log and "\x1b" not in log
    assert ("\x1b[33mWARNING\x1b[0m: no metric" in terminal.getvalue()) == (rank == 0)  # the others have no console


@pytest.mark.parametrize("isatty, environment", [(True, {"NO_COLOR": "1"}), (False, {})])
def test_no_colours_where_they_are_not_wanted_or_not_seen(tmp_path, isatty, environment):
    with console(isatty, **environment) as out:
        log_a_table(tmp_path)
    assert out.getvalue() == "evaluated   Toy: mAP 1.0\nWARNING: no metric\n"


def test_the_logger_of_a_run_is_set_up_once(tmp_path):
    with console() as terminal:
        log_a_table(tmp_path)
        log_a_table(tmp_path)
    assert terminal.getvalue().count("evaluated   Toy: mAP 1.0\n") == 2
