"""Inputs that nobody meant to make; `fuzz.py` beside this file tries many more of the same."""

import hostile_checkpoints
import hostile_images
import hostile_indexes
import hostile_models
import hostile_names
import hostile_overrides
import hostile_yaml
from hostile import in_suite

test_a_hostile_image_is_an_rgb_image_or_unreadable = in_suite(hostile_images.TARGET, examples=200)
test_hostile_file_names_are_read_and_shown_or_refused = in_suite(hostile_names.TARGET, examples=50)
test_hostile_overrides_are_taken_or_refused = in_suite(hostile_overrides.TARGET, examples=60)
test_what_passes_is_built_or_refused = in_suite(hostile_models.TARGET, examples=12)
test_a_hostile_config_file_is_read_or_refused = in_suite(hostile_yaml.TARGET, examples=60)
test_a_hostile_checkpoint_is_what_was_written_or_refused = in_suite(hostile_checkpoints.TARGET, examples=60)
test_a_hostile_gallery_index_is_read_or_refused = in_suite(hostile_indexes.TARGET, examples=60)
