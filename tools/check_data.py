"""Prints what lies in the folder of the data sets, against published counts."""

from igoas_plugin.cli.check_data import run

if __name__ == "__main__":
    run()
