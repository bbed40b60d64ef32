"""Makes weights for MODEL.WEIGHTS from a file of the original IGOAS; a training's .pth to .safetensors, and back."""

from igoas_plugin.cli.convert_checkpoint import run

if __name__ == "__main__":
    run()
