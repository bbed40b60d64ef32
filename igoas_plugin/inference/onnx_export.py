"""Export of a trained model to ONNX, with normalisation, the ranked branches, TEST.FLIP and the scaling to length 1."""

import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from igoas_plugin.config import value_of
from igoas_plugin.core.errors import InputError, one_line, require_choice, require_packages
from igoas_plugin.core.files import check_output_file, write_atomically
from igoas_plugin.core.timing import Row, measure
from igoas_plugin.core.version import __version__

from .onnx_predictor import NO_DIGEST, OnnxDescription, digest_of, session_of
from .predictor import Predictor, descriptors_of

if TYPE_CHECKING:  # only needed when a model is exported
    from onnx import ModelProto
    from onnxruntime import InferenceSession

INPUTS = ("uint8", "float32")
OPSET = 18  # the oldest that torch exports to; it converts to later ones, and older runtimes read it
TOLERATED = 1e-4  # largest difference to a value of PyTorch's descriptors
TRACED, TRIED = 2, (1, 5)  # batch sizes: for the export, and for trying the file
TIMED, REPEATS = 16, 5  # batch size and repetitions, as in tools/benchmark.py infer
READING = ("INPUT.SIZE_TEST", "INPUT.CROP.ENABLED", "INPUT.CROP.SIZE")  # keys that the test transform depends on


class Exported(NamedTuple):
    """Model that was written as an ONNX file."""

    description: OnnxDescription  # metadata of the file
    megabytes: float  # size of the file in 10^6 bytes
    difference: float  # largest difference to a value of PyTorch's descriptors, on random images
    graph: "Graph"  # exported module
    session: "InferenceSession"  # the file in onnxruntime

    def speed(self) -> list[Row]:
        """Times PyTorch eager and onnxruntime on the CPU, with the same random images and number of threads."""
        images = random_images(self.description, TIMED)
        ways = {
            "PyTorch eager": lambda: described_by_torch(self.graph, images),
            "onnxruntime": lambda: described_by_onnx(self.session, images),
        }
        height, width = self.description.size
        case = f"{height}x{width}, batch {TIMED}, {torch.get_num_threads()} threads"
        return measure(ways, case, REPEATS, rounds=1, work=TIMED, unit="images")


class Graph(nn.Module):
    """Module that is exported: from images (B, 3, H, W), RGB in [0, 255], to descriptors (B, D) of length 1."""

    def __init__(self, predictor: Predictor):
        super().__init__()
        self.model, self.flip = predictor.model, predictor.flip

    def forward(self, images: Tensor) -> Tensor:
        return descriptors_of(images.float(), self.model, self.flip)


def export(cfg: CfgNode, path: str, input_type: str = "uint8", opset: int = OPSET) -> Exported:
    """Writes the model of a config, with the weights in MODEL.WEIGHTS, as an ONNX file.

    Its input "images" is (B, 3, H, W), RGB in [0, 255], for any B. Its output "descriptors" is (B, D), float32, equal
    to those of Predictor. It computes in float32 even with TEST.FAST. The file is only written if its descriptors equal
    those of PyTorch.

    Args:
        cfg: config of the model.
        path: path of the file; an earlier file is replaced.
        input_type: dtype of the images, one of INPUTS.
        opset: version of ONNX's operators.

    Raises:
        InputError: a package is missing, the folder cannot be made, `input_type` or `opset` is unknown, the weights do
            not fit, torch cannot export the model, or the descriptors differ from PyTorch's. Nothing is written.
        OutputError: the file cannot be written.
    """
    require_packages("onnx", "onnxruntime", "onnxscript")
    require_choice("the type of the input", input_type, INPUTS)
    require_exporter(opset)
    check_output_file(path)
    predictor = Predictor(in_float32(cfg))
    description = description_of(cfg, predictor, input_type, opset)
    graph = Graph(predictor).eval()
    content = onnx_model(graph, description).SerializeToString()
    description = replace(description, digest=digest_of(content))
    content = content.replace(NO_DIGEST.encode(), description.digest.encode())
    try:
        session = session_of(content)
        difference = max(largest_difference(graph, session, random_images(description, batch)) for batch in TRIED)
    except Exception as error:  # the exceptions of onnxruntime have no common base class
        raise InputError(f"onnxruntime cannot run this model: {one_line(error)}") from error
    if not difference <= TOLERATED:  # true for NaN too
        raise InputError(
            f"the descriptors of onnxruntime differ from PyTorch's by {difference:.2g}, more than {TOLERATED:g}: "
            f"{path} is not written"
        )
    write_atomically(path, lambda file: file.write(content))
    return Exported(description, len(content) / 1e6, difference, graph, session)


def require_exporter(opset: int) -> None:
    """Raises InputError if the installed torch cannot export, or the installed onnx does not know the opset."""
    from onnx.defs import onnx_opset_version

    if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
        raise InputError(f"ONNX files are written by torch 2.5 or newer, and this is torch {torch.__version__}")
    if not OPSET <= opset <= onnx_opset_version():
        raise InputError(f"the opset must be {OPSET} to {onnx_opset_version()}, got {opset}")


def in_float32(cfg: CfgNode) -> CfgNode:
    """Returns the config of the same model on the CPU, in float32 and not compiled."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.MODEL.IGOAS.COMPILE = "cpu", False
    cfg.TEST.FAST, cfg.SOLVER.AMP.DTYPE = False, "auto"
    return cfg


def description_of(cfg: CfgNode, predictor: Predictor, input_type: str, opset: int) -> OnnxDescription:
    """Returns the metadata of the file to write."""
    blank = predictor.read(np.zeros((1, 1, 3), np.uint8))
    return OnnxDescription(
        plugin_version=__version__,
        input=input_type,
        size=list(blank.shape[1:]),
        mean=list(cfg.MODEL.PIXEL_MEAN),
        std=list(cfg.MODEL.PIXEL_STD),
        descriptor_width=predictor.width,
        opset=opset,
        batch=predictor.batch,
        reading={key: value_of(cfg, key) for key in READING},
        fingerprint=predictor.fingerprint,
        digest=NO_DIGEST,
    )


def onnx_model(graph: Graph, description: OnnxDescription) -> "ModelProto":
    """Converts the graph to an ONNX model for any batch size, with metadata; raises InputError if torch cannot."""
    import onnx

    images = random_images(description, TRACED)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (images,),
                dynamo=True,
                opset_version=description.opset,
                input_names=["images"],
                output_names=["descriptors"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise InputError(f"torch {torch.__version__} cannot export this model to ONNX: {reason}") from error
    model = program.model_proto
    forget_sources(model)
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)  # older runtimes refuse a later one
    onnx.helper.set_model_props(model, description.as_metadata())
    onnx.checker.check_model(model, full_check=True)
    made = [each.version for each in model.opset_import if not each.domain]
    if made != [description.opset]:
        raise InputError(f"torch {torch.__version__} makes opset {made[0]} of this model, not {description.opset}")
    return model


def forget_sources(model: "ModelProto") -> None:
    """Removes the source lines, with their paths on this machine, that torch stores with each value."""
    graph = model.graph
    for each in (*graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output, graph):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")


@contextmanager
def quiet() -> Iterator[None]:
    """Context that hides the warnings, log lines and prints of torch's exporter, which are for its developers."""
    disabled, nowhere = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def random_images(description: OnnxDescription, batch: int) -> Tensor:
    """Returns random whole pixels in the dtype and size that a file takes; equal on each call."""
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, 3, *description.size)
    return torch.randint(256, shape, generator=generator, dtype=getattr(torch, description.input))


@torch.no_grad()
def described_by_torch(graph: Graph, images: Tensor) -> np.ndarray:
    """Returns the descriptors that PyTorch computes."""
    return graph(images).numpy()


def described_by_onnx(session: "InferenceSession", images: Tensor) -> np.ndarray:
    """Returns the descriptors that onnxruntime computes."""
    return session.run(None, {"images": images.numpy()})[0]


def largest_difference(graph: Graph, session: "InferenceSession", images: Tensor) -> float:
    """Returns the largest difference between a value of onnxruntime and of PyTorch."""
    return float(np.abs(described_by_onnx(session, images) - described_by_torch(graph, images)).max())
