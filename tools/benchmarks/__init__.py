"""Benchmarks of tools/benchmark.py, one file for each of its commands."""
