"""Figures, HTML pages and comparisons of runs."""
