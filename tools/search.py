"""Finds a person in a folder of crops."""

from igoas_plugin.cli.search import run

if __name__ == "__main__":
    run()
