"""Evaluates a run anew and writes all of it as one HTML page, which needs no network and no file beside it."""

from igoas_plugin.cli.report import run

if __name__ == "__main__":
    run()
