"""Marks of tests of what the oldest torch that setup.cfg admits cannot do; the plugin then says which one can."""

import inspect

import pytest
import torch

writes_onnx = pytest.mark.skipif(
    "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters,
    reason="ONNX files are written by torch 2.5 or newer",
)
compiles = pytest.mark.skipif(
    not hasattr(torch.compiler, "set_stance"), reason="MODEL.IGOAS.COMPILE needs torch 2.6 or newer"
)
