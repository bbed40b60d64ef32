"""Measurements of the plugin's fast ways beside the plain ones: one file a command of tools/benchmark.py."""
