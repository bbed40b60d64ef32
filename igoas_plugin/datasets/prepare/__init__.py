"""Lays out a published data set from the folder or archive that a user has."""

from .recipes import LINKS, RECIPES, prepare

__all__ = ["LINKS", "RECIPES", "prepare"]
