"""Trains or evaluates any config with the command line of fast-reid's own script."""

from igoas_plugin.cli.train_net import run

if __name__ == "__main__":
    run()
