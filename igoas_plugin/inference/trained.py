"""The model of a config with its trained weights, for everything that uses a model outside a run."""

from fastreid.modeling import build_model
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from igoas_plugin.checkpoint.checkpoint_file import load_file
from igoas_plugin.checkpoint.read_ahead import reading_ahead
from igoas_plugin.core.errors import InputError
from igoas_plugin.engine.checkpoints import CLASSIFIER
from igoas_plugin.preflight import check_amp, check_batches, check_device, check_model_names


def check_trained(cfg) -> None:
    """Checks what build_trained() needs, without building anything.

    Raises:
        InputError: a key of the model names nothing that is registered, the device does not exist,
            TEST.IMS_PER_BATCH is not positive, or MODEL.WEIGHTS is empty.
    """
    check_model_names(cfg)
    check_device(cfg.MODEL.DEVICE, processes=1)
    check_amp(cfg)
    check_batches(cfg, processes=1, train=False)
    if not cfg.MODEL.WEIGHTS:
        raise InputError("MODEL.WEIGHTS is empty: name the weights of the model, such as logs/run/model_best.pth")


def build_trained(cfg) -> nn.Module:
    """Builds the model of a config with the weights in MODEL.WEIGHTS, in evaluation mode, on MODEL.DEVICE.

    Raises:
        InputError: the weights are missing, damaged, or of another architecture.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = False
    with reading_ahead():
        cfg.MODEL.HEADS.NUM_CLASSES = identities_of(cfg.MODEL.WEIGHTS)
    model = build_model(cfg).eval()
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    return model


def identities_of(path: str) -> int:
    """Returns the number of identities that the classifiers of a checkpoint distinguish; 1 if it has no classifier."""
    weights = load_file(path)["model"].items()
    return next((len(weight) for name, weight in weights if CLASSIFIER.search(name) and weight.dim()), 1)
