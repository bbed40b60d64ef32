"""Hostile inputs, a few of each kind; fuzz.py tries many more."""

import hostile_checkpoints
import hostile_images
import hostile_indexes
import hostile_models
import hostile_names
import hostile_overrides
import hostile_yaml
import pytest
from hostile import in_suite

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns about most broken images
TARGETS = {  # target, number of cases with the mark fault, number of cases in every run
    "image": (hostile_images.TARGET, 200, 20),
    "file names": (hostile_names.TARGET, 50, 5),
    "overrides": (hostile_overrides.TARGET, 60, 10),
    "models": (hostile_models.TARGET, 12, 0),  # slow: builds models
    "config file": (hostile_yaml.TARGET, 60, 10),
    "checkpoint": (hostile_checkpoints.TARGET, 60, 10),
    "gallery index": (hostile_indexes.TARGET, 60, 10),
}


@pytest.mark.fault
@pytest.mark.parametrize("name", TARGETS)
def test_hostile_inputs_are_read_or_refused(name):
    target, examples, _ = TARGETS[name]
    in_suite(target, examples)()


@pytest.mark.parametrize("name", [name for name, (_, _, quick) in TARGETS.items() if quick])
def test_some_hostile_inputs_are_read_or_refused(name):
    target, _, quick = TARGETS[name]
    in_suite(target, quick)()
