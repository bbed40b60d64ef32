import pytest

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.spelling import spelled

KNOWN = ["OccludedDuke", "Market1501", "Market_1501", "PartialREID"]


@pytest.mark.parametrize("typed, meant", [
    ("OccludedDuke", "OccludedDuke"), ("occluded-duke", "OccludedDuke"), ("Occluded_DUKE", "OccludedDuke"),
    ("partial_reid", "PartialREID"), ("Market1501", "Market1501"), ("Market_1501", "Market_1501"), ("Duke", "Duke"),
])  # fmt: skip
def test_a_name_is_taken_in_any_case_with_dashes_and_underscores_and_an_exact_one_wins(typed, meant):
    assert spelled("NAME", typed, KNOWN) == meant


def test_a_name_that_can_be_two_is_refused():
    with pytest.raises(InputError, match="^NAME: market-1501 can be Market1501 or Market_1501: write one of them exac"):
        spelled("NAME", "market-1501", KNOWN)
