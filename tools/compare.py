"""Trains and tests several configs over several seeds, and writes one table and plots of them."""

from igoas_plugin.cli.compare import run

if __name__ == "__main__":
    run()
