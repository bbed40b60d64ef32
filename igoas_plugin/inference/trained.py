"""The model of a config with its trained weights, for everything that uses a model outside a run."""

import os

from fastreid.config import CfgNode
from fastreid.modeling import build_model
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from igoas_plugin.checkpoint.checkpoint_file import load_file
from igoas_plugin.checkpoint.read_ahead import reading_ahead
from igoas_plugin.config import load_cfg
from igoas_plugin.core.errors import InputError
from igoas_plugin.engine.checkpoints import CLASSIFIER
from igoas_plugin.preflight import check_amp, check_batches, check_device, check_model_names, check_nfc

# Files of weights, the preferred one first, and their description
WEIGHTS = {
    "model_final.pth": "the run's weights after its last epoch",
    "model_best.pth": "the run's best epoch, which was chosen on the test set itself: no figure to compare",
}


def check_trained(cfg) -> None:
    """Checks what build_trained() needs, without building anything.

    Raises:
        InputError: a key of the model names nothing that is registered, the device does not exist,
            TEST.IMS_PER_BATCH is not positive, a key of TEST.NFC is out of range, or MODEL.WEIGHTS is empty.
    """
    check_model_names(cfg)
    check_device(cfg.MODEL.DEVICE, processes=1)
    check_amp(cfg)
    check_nfc(cfg)
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


def config_of_run(path: str, opts: list[str] = ()) -> CfgNode:
    """Reads the config.yaml in the folder of a run.

    Args:
        opts: KEY VALUE ... that override it.

    Raises:
        InputError: the folder holds no run, the file is damaged, or the pairs do not fit.
    """
    config = os.path.join(path, "config.yaml")
    if not os.path.isfile(config):
        raise InputError(f"{config} does not exist: give the folder that tools/train_net.py wrote a run into")
    return load_cfg(config, opts)


def weights_in(path: str, configured: str, given: bool = False) -> tuple[str, str]:
    """Returns the path of the weights to evaluate, and their description.

    Args:
        path: folder of the run.
        configured: MODEL.WEIGHTS.
        given: whether the command line sets MODEL.WEIGHTS.

    Raises:
        InputError: there are none.
    """
    if given and configured:
        return configured, "given on the command line"
    for name, description in WEIGHTS.items():
        file = os.path.join(path, name)
        if os.path.isfile(file):
            return file, description
    # with a last_checkpoint, these are the weights that a training started from
    if configured and not os.path.exists(os.path.join(path, "last_checkpoint")):
        return configured, "MODEL.WEIGHTS of config.yaml, which the run evaluated"
    raise InputError(f"{path} holds neither {' nor '.join(WEIGHTS)}: finish the training, or give MODEL.WEIGHTS PATH")
