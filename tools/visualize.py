"""Pictures of a method, a model and its runs; the paths of the files are printed."""

from igoas_plugin.cli.visualize import run

if __name__ == "__main__":
    run()
