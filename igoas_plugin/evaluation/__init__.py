"""Evaluation: descriptors, ranking, metrics, results."""
