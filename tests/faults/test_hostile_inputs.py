"""Inputs that nobody meant to make; `fuzz.py` beside this file tries many more of the same."""

import hostile_images
from hostile import in_suite

test_a_hostile_image_is_an_rgb_image_or_unreadable = in_suite(hostile_images.TARGET, examples=200)
