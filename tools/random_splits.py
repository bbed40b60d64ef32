"""Runs tools/train_net.py on the ten random draws of a protocol and prints their mean and standard deviation."""

from igoas_plugin.cli.random_splits import run

if __name__ == "__main__":
    run()
