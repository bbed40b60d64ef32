"""Checkpoints: safe reading, conversion, and ImageNet weights."""

from .released_igoas import convert_reference_state_dict

__all__ = ["convert_reference_state_dict"]
