"""Every config key of the plugin: default, meaning, unit, source."""

import difflib
import os

from fastreid.config import CfgNode
from fastreid.config import get_cfg as get_host_cfg

from .core.errors import InputError
from .core.yaml_file import read_config

# What yacs raises for a value that does not fit; the last two for a text that is nested beyond what Python parses
UNFIT = (ValueError, KeyError, AssertionError, RecursionError, MemoryError)


def plugin_defaults() -> CfgNode:
    C = CfgNode()

    # >= 0: seeds everything. -1: drawn once, written to config.yaml, reused on resume
    C.SEED = -1

    # Training image that cannot be read: "stop" the run, or "skip" it (the next of its identity is taken; counted)
    C.DATALOADER = CfgNode()
    C.DATALOADER.ON_ERROR = "stop"

    # How an evaluation ranks: "host" (all distances in memory, sorted), "blocked" (a block of queries at a time, by
    # counting: same figures; equal distances count against the model), or "auto": blocked, and host for TEST.ROC
    C.TEST = CfgNode()
    C.TEST.RANKING = "auto"
    # Evaluates a copy of the model with norms fused into convolutions, channels last and in mixed precision
    C.TEST.FAST = False

    # Type of mixed precision (SOLVER.AMP.ENABLED, TEST.FAST): "float16" (on a GPU only), "bfloat16", or "auto": float16
    # on a GPU as in the host; on a CPU bfloat16 where it has instructions for it, else float32
    C.SOLVER = CfgNode()
    C.SOLVER.AMP = CfgNode()
    C.SOLVER.AMP.DTYPE = "auto"
    # Whether SIGTERM and Ctrl-C let a training finish its step and write a checkpoint before it ends, with exit code
    # 143 or 130
    C.SOLVER.CHECKPOINT_ON_SIGNAL = True
    # Periodic checkpoints (SOLVER.CHECKPOINT_PERIOD) that are kept, beside the best and the final one; 0: all
    C.SOLVER.CHECKPOINT_KEEP = 0
    # A loss or gradient that is not finite: "stop" the run before its weights take harm, or "skip" that step
    C.SOLVER.ON_NONFINITE = "stop"
    # Steps that are skipped in a row before the run stops all the same
    C.SOLVER.NONFINITE_LIMIT = 10

    # Epochs between two looks at what is occluded: the last batch, and the responses to it, as images in tensorboard;
    # 0: none
    C.TENSORBOARD = CfgNode()
    C.TENSORBOARD.IMAGES_PERIOD = 0

    C.MODEL = CfgNode()

    # SHA-256 of the file of pretrained weights, downloaded or PRETRAIN_PATH, 64 hexadecimal digits; "": not compared
    C.MODEL.BACKBONE = CfgNode()
    C.MODEL.BACKBONE.PRETRAIN_SHA256 = ""

    # ---- The occlusion block (IGO, section III-B of the paper) ----
    C.MODEL.OCCLUSION = CfgNode()
    # Name in OCCLUSION_REGISTRY
    C.MODEL.OCCLUSION.NAME = "IncrementalErasing"
    # Meta-architecture that OcclusionWrapper trains behind the block
    C.MODEL.OCCLUSION.WRAPS = "Baseline"
    # Probability that a batch is occluded, in [0, 1]
    C.MODEL.OCCLUSION.PROB = 1.0
    # How the occluded share of the image grows: "released" (by epoch, then constant) or "paper" (linear, by iteration)
    C.MODEL.OCCLUSION.SCHEDULE = "released"
    # Epochs that the schedule spans; 0: SOLVER.MAX_EPOCH. The original trains 90
    C.MODEL.OCCLUSION.EPOCHS = 0
    # Share of the image at the start, in (0, 1)
    C.MODEL.OCCLUSION.AREA_START = 0.1
    # Released schedule: growth of the share over all EPOCHS, were it not cut at AREA_RAMP
    C.MODEL.OCCLUSION.AREA_SLOPE = 0.4
    # Released schedule: part of EPOCHS in which the share grows (the original: up to epoch 55 of 90)
    C.MODEL.OCCLUSION.AREA_RAMP = 55 / 90
    # Share after the ramp (released), or at the last iteration (paper: 0.33), in (0, 1)
    C.MODEL.OCCLUSION.AREA_FINAL = 1 / 3
    # Smallest height : width of a rectangle that is narrower than the image, in (0, 1]; the largest is 1
    C.MODEL.OCCLUSION.ASPECT_MIN = 0.5
    # One random value a channel: U(0, 1) on the normalised image (released) or U(0, 255) before normalisation (paper)
    C.MODEL.OCCLUSION.FILL = "normalised"
    # Probability, in [0, 1], that a side of an occluded image is cut off too, by the schedule, and the rest enlarged
    C.MODEL.OCCLUSION.TRUNCATION = 0.0
    # What the suppression loss is told: where the image is "occluded", or "ones" (nothing is; released, per image)
    C.MODEL.OCCLUSION.MASK = "occluded"
    # CutoutOcclusion: folder of images with an alpha channel
    C.MODEL.OCCLUSION.CUTOUTS = ""

    # ---- The two-branch model (section III of the paper) ----
    C.MODEL.IGOAS = CfgNode()
    # Max pooling of the ResNet stem: "torchvision" pads by 1, as ImageNet weights expect; "host" does not
    C.MODEL.IGOAS.STEM = "torchvision"
    # One more randomly initialised block after each branch's last stage, of the backbone's own type (not in the paper)
    C.MODEL.IGOAS.EXTRA_BLOCK = True
    # What is ranked: "joint" (both halves), "global" or "suppression" (table V)
    C.MODEL.IGOAS.DESCRIPTOR = "joint"
    # Pooling of each branch, a name in fastreid.layers.pooling; wins over MODEL.HEADS.POOL_LAYER
    C.MODEL.IGOAS.GLOBAL = CfgNode()
    C.MODEL.IGOAS.GLOBAL.POOL_LAYER = "GlobalAvgPool"
    C.MODEL.IGOAS.SUPPRESSION = CfgNode()
    C.MODEL.IGOAS.SUPPRESSION.POOL_LAYER = "GlobalMaxPool"
    # Whether the suppression branch has its attention modules, before and after the last stage
    C.MODEL.IGOAS.SUPPRESSION.ATTENTION = True
    # Suppression loss (eq. 1): weight; 0 leaves it out
    C.MODEL.IGOAS.MASK_LOSS = CfgNode()
    C.MODEL.IGOAS.MASK_LOSS.SCALE = 1.0
    # What must vanish under the mask: "channel_mean" (released) or the whole "feature_map" (paper)
    C.MODEL.IGOAS.MASK_LOSS.ON = "channel_mean"
    # The mask at the size of the feature map: "bilinear" (released; blind to most occlusions on coarse maps) or "area"
    C.MODEL.IGOAS.MASK_LOSS.RESIZE = "bilinear"
    # Branches that get it: both (released) or ("suppression",) (paper)
    C.MODEL.IGOAS.MASK_LOSS.BRANCHES = ("global", "suppression")
    # "last": on the final feature maps (released); "both": also behind the first attention module (paper)
    C.MODEL.IGOAS.MASK_LOSS.STAGES = "last"
    # Weights of the three identity losses: "adaptive" (softmax of the losses) or "mean" (table IX)
    C.MODEL.IGOAS.ID_WEIGHTS = "adaptive"
    # Whether a training step runs trunk and branches by torch.compile, which takes minutes before the first step
    C.MODEL.IGOAS.COMPILE = False
    # Epochs at the start in which trunk and last stages are frozen
    C.MODEL.IGOAS.FREEZE_EPOCHS = 0
    # Whether the joint classifier is frozen with them, as in the released code
    C.MODEL.IGOAS.FREEZE_JOINT = True
    return C


def add_missing(cfg: CfgNode, defaults: CfgNode) -> None:
    for key, value in defaults.items():
        if key not in cfg:
            cfg[key] = value
        elif isinstance(value, CfgNode):
            add_missing(cfg[key], value)


def add_igoas_config(cfg: CfgNode) -> None:
    """Adds the plugin's keys to a host config; idempotent, and never overwrites a value that is set.

    Args:
        cfg: changed in place; it may be frozen, and stays so.
    """
    frozen = cfg.is_frozen()
    cfg.defrost()
    add_missing(cfg, plugin_defaults())
    if frozen:
        cfg.freeze()


def get_cfg() -> CfgNode:
    """The host's defaults plus the plugin's keys."""
    cfg = get_host_cfg()
    add_igoas_config(cfg)
    return cfg


def load_cfg(config_file: str, opts: list[str] = ()) -> CfgNode:
    """Defaults, then a YAML file with its bases, then KEY VALUE pairs.

    Args:
        config_file: path of a YAML file, as read_config() takes it; "" for none.
        opts: KEY VALUE KEY VALUE ..., as the command line gives them.

    Returns:
        The config, not frozen.

    Raises:
        InputError: a file is missing, or refused by read_config(), a key is unknown (the nearest known one is named), a
            value has the wrong type, or opts are no pairs.
    """
    cfg = get_cfg()
    if config_file:
        if not os.path.isfile(config_file):
            raise InputError(f"config file {config_file} does not exist: give --config-file the path of a YAML file")
        try:
            given = CfgNode(read_config(config_file))
        except AssertionError as error:  # a date, or bytes
            raise InputError(f"config file {config_file} cannot be read: {' '.join(str(error).split())}") from None
        merge(cfg, given, f"config file {config_file}")
    opts = list(opts)
    if len(opts) % 2 or any("=" in key for key in opts[::2]):
        raise InputError(
            f"options must be KEY VALUE pairs with a space between, got {' '.join(opts)}: "
            "--resume takes no path (it continues OUTPUT_DIR); a checkpoint to start from is MODEL.WEIGHTS PATH"
        )
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        merge_option(cfg, key, value)
    return cfg


def merge(cfg: CfgNode, given: CfgNode, source: str) -> None:
    """Merges a tree of keys into `cfg`; raises InputError, naming `source`, where a key or a value does not fit."""
    for key in flat_keys(given):
        require_known(key, cfg, source)
        section, _, last = key.rpartition(".")
        try:
            node = value_of(given, section) if section else given
        except KeyError:
            raise InputError(f"{source}: {key} is one word: write each part of it within the one before") from None
        node[last] = fitting(node[last], key, cfg, source)
    try:
        cfg.merge_from_other_cfg(given)
    except UNFIT as error:
        raise InputError(f"{source}: {' '.join(str(error).split()) or type(error).__name__}") from None


def merge_option(cfg: CfgNode, key: str, value: str) -> None:
    """The same for one KEY VALUE pair of the command line."""
    require_known(key, cfg, "command line")
    try:
        value = fitting(CfgNode._decode_cfg_value(value), key, cfg, "command line")
        cfg.merge_from_list([key, value])
    except InputError:
        raise
    except UNFIT as error:
        raise InputError(f"command line: {key}: {' '.join(str(error).split()) or type(error).__name__}") from None


def fitting(value, key: str, cfg: CfgNode, source: str):
    """The value, a whole number as float where the key holds one; InputError for None, which yacs takes for any key."""
    known = value_of(cfg, key)
    if value is None and known is not None:
        raise InputError(f"{source}: {key} has no value; its default is {known!r}")
    if not isinstance(known, float) or type(value) is not int:
        return value
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{source}: {key} is larger than any number that a float holds") from None


def value_of(cfg: CfgNode, key: str):
    """What a dotted key holds."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def flat_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """All leaf keys, dotted."""
    keys = []
    for key, value in cfg.items():
        if isinstance(value, CfgNode) and value:
            keys += flat_keys(value, f"{prefix}{key}.")
        else:
            keys.append(f"{prefix}{key}")
    return keys


def require_known(key: str, cfg: CfgNode, source: str) -> None:
    """Raises InputError, with the nearest known key, where `key` names no value of `cfg`."""
    known = flat_keys(cfg)
    if key in known:
        return
    if any(each.startswith(f"{key}.") for each in known):
        raise InputError(f"{source}: {key} holds other keys and takes no value itself")
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)
    raise InputError(f"{source}: unknown key {key}; the nearest known key is {nearest[0]}")
