import pytest
from kills import kill_and_resume


@pytest.mark.fault
def test_a_run_that_is_killed_three_times_ends_as_the_one_that_was_left_alone(tmp_path):
    told = kill_and_resume(tmp_path, kills=3, seed=0, epochs=9)
    assert told["kills"] == 3 and told["while writing"] >= 1
    assert told["differences"] == []
    assert told["epochs logged once"]
