"""Lays out a data set that you have as a folder, .zip or .rar as the plugin reads it."""

from igoas_plugin.cli.prepare_data import run

if __name__ == "__main__":
    run()
