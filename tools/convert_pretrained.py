"""Makes a file for MODEL.BACKBONE.PRETRAIN_PATH from ImageNet weights of other packages, and prints the keys to set."""

from igoas_plugin.cli.convert_pretrained import run

if __name__ == "__main__":
    run()
