"""Checkpoints: reading them safely, converting them, and weights of ImageNet."""

from .released_igoas import convert_reference_state_dict

__all__ = ["convert_reference_state_dict"]
