"""Prints one table of the metrics of several runs, and where the last one's log, weights and events are."""

from igoas_plugin.cli.summarize import run

if __name__ == "__main__":
    run()
