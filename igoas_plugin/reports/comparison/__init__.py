"""What tools/compare.py does: runs of several configs over seeds, their measures, one table, plots."""
