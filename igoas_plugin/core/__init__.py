"""Foundations: errors, files, YAML, randomness, timing. Imports nothing else of the package."""
