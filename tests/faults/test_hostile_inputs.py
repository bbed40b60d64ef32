"""Inputs that nobody meant to make; `fuzz.py` beside this file tries many more of the same."""

import hostile_checkpoints
import hostile_images
import hostile_indexes
import hostile_models
import hostile_names
import hostile_overrides
import hostile_yaml
import pytest
from hostile import in_suite

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns of most of what is broken
TARGETS = {  # and how many cases are tried: at length, and in every run
    "image": (hostile_images.TARGET, 200, 20),
    "file names": (hostile_names.TARGET, 50, 5),
    "overrides": (hostile_overrides.TARGET, 60, 10),
    "models": (hostile_models.TARGET, 12, 0),  # builds them
    "config file": (hostile_yaml.TARGET, 60, 10),
    "checkpoint": (hostile_checkpoints.TARGET, 60, 10),
    "gallery index": (hostile_indexes.TARGET, 60, 10),
}


@pytest.mark.fault
@pytest.mark.parametrize("name", TARGETS)
def test_what_is_hostile_is_read_or_refused(name):
    target, examples, _ = TARGETS[name]
    in_suite(target, examples)()


@pytest.mark.parametrize("name", [name for name, (_, _, quick) in TARGETS.items() if quick])
def test_some_of_what_is_hostile_is_read_or_refused(name):
    target, _, quick = TARGETS[name]
    in_suite(target, quick)()
