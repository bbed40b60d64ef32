"""What tools/report.py does: an evaluation of a run as one HTML page."""
