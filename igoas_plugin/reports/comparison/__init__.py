"""Comparison of several configs over several seeds: the runs, their measures, the table and the plots."""
