"""Preparation of the published data sets from a folder or archive that a user has."""

from .prepared_folder import LINKS, prepare
from .recipes import RECIPES

__all__ = ["LINKS", "RECIPES", "prepare"]
