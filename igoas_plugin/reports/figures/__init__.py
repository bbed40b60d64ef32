"""Figures of a method, a model and its runs, drawn with matplotlib."""
