"""Writes a trained model as an ONNX file that runs without its code, and compares it with PyTorch."""

from igoas_plugin.cli.export import run

if __name__ == "__main__":
    run()
