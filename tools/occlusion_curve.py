"""Evaluates models on OccludedMarket1501 over all severities and kinds of occlusion: a CSV file and a plot."""

from igoas_plugin.cli.occlusion_curve import run

if __name__ == "__main__":
    run()
