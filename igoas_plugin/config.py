"""Every config key of the plugin: default, meaning, unit, source."""

import difflib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from fastreid.config import CfgNode
from fastreid.config import get_cfg as get_fastreid_cfg
from fastreid.data.datasets import DATASET_REGISTRY

from .core.errors import InputError, one_line
from .core.extensions import import_modules
from .core.spelling import spelled
from .core.yaml_file import read_config


def plugin_defaults() -> CfgNode:
    """Returns the keys that the plugin adds to those of fast-reid."""
    C = CfgNode()

    # Names of modules of your own, such as ["my_data"], that register data sets or parts of models: every tool imports
    # them, from the working directory too
    C.IMPORTS = ()

    # Seed of all randomness, 0 or more. -1: drawn once, written to config.yaml, and used again on resume
    C.SEED = -1

    # A training image that cannot be read: "stop" the run, or "skip" the image (the next image of its
    # identity is taken, and the skipped ones are counted)
    C.DATALOADER = CfgNode()
    C.DATALOADER.ON_ERROR = "stop"

    # How an evaluation ranks: "host" (as fast-reid: all distances in memory, sorted), "blocked" (a block of queries at
    # a time, by counting; the same figures, but equal distances count against the model) or "auto" (blocked, or host
    # with TEST.ROC)
    C.TEST = CfgNode()
    C.TEST.RANKING = "auto"
    # Whether an evaluation leaves out gallery images of the query's identity in the query's camera. False counts
    # them as matches, for data of one camera; published figures apply the rule
    C.TEST.CAMERA_RULE = True
    # Whether an evaluation adds to each descriptor those of its mutual nearest neighbours (neighbour feature
    # centralisation, Pose2ID, CVPR 2025), before TEST.AQE and TEST.RERANK. It needs several gallery images a person
    C.TEST.NFC = CfgNode()
    C.TEST.NFC.ENABLED = False
    # Number of nearest descriptors that can be mutual neighbours, 1 or more
    C.TEST.NFC.K = 5
    # What takes part: the "gallery" alone (no query is used for another one, and it can be computed once), or "both",
    # query and gallery together (the published form, which is transductive)
    C.TEST.NFC.SIDES = "gallery"
    # Least cosine similarity of a neighbour, in [-1, 1]. -1: the published form; from 0 on, neighbours never cancel out
    # the descriptor itself
    C.TEST.NFC.SIMILARITY = 0.0
    # Whether an evaluation runs a copy of the model with fused norms, channels last, in mixed precision
    C.TEST.FAST = False

    # Dtype of mixed precision (SOLVER.AMP.ENABLED, TEST.FAST): "float16" (only on a GPU), "bfloat16" or "auto". auto is
    # float16 on a GPU, and on a CPU bfloat16 if it has the instructions, else float32
    C.SOLVER = CfgNode()
    C.SOLVER.AMP = CfgNode()
    C.SOLVER.AMP.DTYPE = "auto"
    # Whether a training finishes its step and writes a checkpoint on SIGTERM and Ctrl-C; the exit code is 143 or 130
    C.SOLVER.CHECKPOINT_ON_SIGNAL = True
    # Number of periodic checkpoints (SOLVER.CHECKPOINT_PERIOD) that are kept beside the best and the final one; 0: all
    C.SOLVER.CHECKPOINT_KEEP = 0
    # A loss or gradient that is not finite: "stop" the run before the weights change, or "skip" the step
    C.SOLVER.ON_NONFINITE = "stop"
    # Number of steps in a row that are skipped before the run stops
    C.SOLVER.NONFINITE_LIMIT = 10
    # Whether a run evaluates and saves an exponential moving average of the weights in place of the raw weights
    C.SOLVER.EMA = CfgNode()
    C.SOLVER.EMA.ENABLED = False
    # Weight of the average in an iteration, in [0, 1); after n averaged iterations at most (1 + n) / (10 + n)
    C.SOLVER.EMA.DECAY = 0.999
    # Number of epochs before averaging begins; until then the average is the raw weights
    C.SOLVER.EMA.START = 0

    # Epochs between two sets of tensorboard images: the occluded batch and the activation maps of it; 0: no images
    C.TENSORBOARD = CfgNode()
    C.TENSORBOARD.IMAGES_PERIOD = 0

    C.MODEL = CfgNode()

    # SHA-256 of the file of pretrained weights, downloaded or PRETRAIN_PATH, 64 hexadecimal digits. "": not compared
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
    # Growth of the occluded share: "released" (by epoch, then constant) or "paper" (linear, by iteration)
    C.MODEL.OCCLUSION.SCHEDULE = "released"
    # Number of epochs that the schedule spans; 0: SOLVER.MAX_EPOCH. The original trains 90
    C.MODEL.OCCLUSION.EPOCHS = 0
    # Share of the image area at the start, in (0, 1)
    C.MODEL.OCCLUSION.AREA_START = 0.1
    # Released schedule: growth of the share over all EPOCHS, if AREA_RAMP did not end it before
    C.MODEL.OCCLUSION.AREA_SLOPE = 0.4
    # Released schedule: part of EPOCHS in which the share grows, in [0, 1] (the original: up to epoch 55 of 90)
    C.MODEL.OCCLUSION.AREA_RAMP = 55 / 90
    # Share after the ramp (released) or at the last iteration (paper: 0.33), in (0, 1)
    C.MODEL.OCCLUSION.AREA_FINAL = 1 / 3
    # IncrementalErasing, IncrementalDrop, PatchOcclusion: smallest height : width of a rectangle that is narrower than
    # the image, in (0, 1]; the largest is 1
    C.MODEL.OCCLUSION.ASPECT_MIN = 0.5
    # IncrementalErasing: random value of each channel, U(0, 1) on the "normalised" image (released) or U(0, 255) on the
    # "pixel" (paper)
    C.MODEL.OCCLUSION.FILL = "normalised"
    # IncrementalErasing, IncrementalDrop: whether each image gets a rectangle and a value of its own; False: the whole
    # batch has the same (released)
    C.MODEL.OCCLUSION.PER_IMAGE = False
    # Probability that a part of an occluded image (a side, or the border) is cut off, by the schedule, and the rest
    # enlarged, in [0, 1]
    C.MODEL.OCCLUSION.TRUNCATION = 0.0
    # Mask of the suppression loss: "occluded" (0 inside the occlusion) or "ones" (released, for per-image blocks)
    C.MODEL.OCCLUSION.MASK = "occluded"
    # CutoutOcclusion: folder of images with an alpha channel. "": objects that the plugin draws
    C.MODEL.OCCLUSION.CUTOUTS = ""
    # CutoutOcclusion: largest number of drawn objects in front of an image, 1 or more. From a folder it is always one
    C.MODEL.OCCLUSION.OBJECTS = 3
    # CutoutOcclusion: probability that a drawn object is a pedestrian of another image of the batch, in [0, 1]
    C.MODEL.OCCLUSION.PEDESTRIANS = 0.4
    # MixedOcclusion: names of the blocks of which each batch gets one, all equally likely
    C.MODEL.OCCLUSION.MIXED = ("IncrementalErasing", "CutoutOcclusion")

    # ---- The two-branch model (section III of the paper) ----
    C.MODEL.IGOAS = CfgNode()
    # Max pooling of the ResNet stem: "torchvision" (padded by 1, as ImageNet weights expect) or "host" (as fast-reid)
    C.MODEL.IGOAS.STEM = "torchvision"
    # Whether one more random block, of the backbone's own type, follows each branch's last stage (not in the paper)
    C.MODEL.IGOAS.EXTRA_BLOCK = True
    # What each branch is trained on: "paired" (the global branch on clean images, the suppression branch on occluded
    # ones: paper, released) or "both" (each on clean and on occluded images)
    C.MODEL.IGOAS.IMAGES = "paired"
    # What is ranked: "joint" (both halves), "global" or "suppression" (table V), and with the stripe branch "stripe" or
    # "all" (global, suppression and stripe)
    C.MODEL.IGOAS.DESCRIPTOR = "joint"
    # Pooling of the global branch, a name in fastreid.layers.pooling, in place of MODEL.HEADS.POOL_LAYER
    C.MODEL.IGOAS.GLOBAL = CfgNode()
    C.MODEL.IGOAS.GLOBAL.POOL_LAYER = "GlobalAvgPool"
    # Pooling of the suppression branch, in the same way
    C.MODEL.IGOAS.SUPPRESSION = CfgNode()
    C.MODEL.IGOAS.SUPPRESSION.POOL_LAYER = "GlobalMaxPool"
    # Whether the suppression branch has its attention modules, before and after the last stage
    C.MODEL.IGOAS.SUPPRESSION.ATTENTION = True
    # Whether a third branch is trained, with a private last stage as the others, on feature maps that have lost one
    # horizontal stripe of 30 % (not in the paper; batch drop-block, as in SCM-ReID)
    C.MODEL.IGOAS.STRIPE = CfgNode()
    C.MODEL.IGOAS.STRIPE.ENABLED = False
    # Pooling of the stripe branch, in the same way
    C.MODEL.IGOAS.STRIPE.POOL_LAYER = "GlobalMaxPool"
    # Weight of its identity loss, 0 or more
    C.MODEL.IGOAS.STRIPE.SCALE = 1 / 3
    # Weight of the suppression loss (eq. 1), 0 or more; 0: no loss. Code, logs and docs say suppression_loss
    C.MODEL.IGOAS.MASK_LOSS = CfgNode()
    C.MODEL.IGOAS.MASK_LOSS.SCALE = 1.0
    # What is suppressed inside the occlusion: the "channel_mean" (released) or the whole "feature_map" (paper)
    C.MODEL.IGOAS.MASK_LOSS.ON = "channel_mean"
    # Resizing of the mask: "bilinear" (released; misses most occlusions on coarse maps) or "area"
    C.MODEL.IGOAS.MASK_LOSS.RESIZE = "bilinear"
    # Branches with the loss: both (released) or ("suppression",) (paper)
    C.MODEL.IGOAS.MASK_LOSS.BRANCHES = ("global", "suppression")
    # Supervised feature maps: the "last" ones (released) or "both" (also behind the first attention module, paper)
    C.MODEL.IGOAS.MASK_LOSS.STAGES = "last"
    # Weights of the three identity losses: "adaptive" (softmax of the losses), "detached" (the same without their part
    # of the gradient), "mean" (table IX), or numbers for global, suppression and joint such as "0.5 1 1"
    C.MODEL.IGOAS.ID_WEIGHTS = "adaptive"
    # Whether a training step runs trunk and branches by torch.compile, which takes minutes before the first step
    C.MODEL.IGOAS.COMPILE = False
    # Number of epochs at the start in which the trunk and the last stages are frozen
    C.MODEL.IGOAS.FREEZE_EPOCHS = 0
    # Whether the joint classifier is frozen with them, as in the released code
    C.MODEL.IGOAS.FREEZE_JOINT = True
    return C


def add_missing(cfg: CfgNode, defaults: CfgNode) -> None:
    """Adds the keys of `defaults` that `cfg` lacks."""
    for key, value in defaults.items():
        if key not in cfg:
            cfg[key] = value
        elif isinstance(value, CfgNode):
            add_missing(cfg[key], value)


def add_igoas_config(cfg: CfgNode) -> None:
    """Adds the keys of the plugin to a config of fast-reid, in place; idempotent, and overwrites no value that is set.

    A frozen config stays frozen.
    """
    frozen = cfg.is_frozen()
    cfg.defrost()
    add_missing(cfg, plugin_defaults())
    if frozen:
        cfg.freeze()


def get_cfg() -> CfgNode:
    """Returns the defaults of fast-reid and of the plugin."""
    cfg = get_fastreid_cfg()
    add_igoas_config(cfg)
    return cfg


def load_cfg(config_file: str, opts: list[str] = ()) -> CfgNode:
    """Returns the defaults, overwritten by a YAML file with its bases, overwritten by KEY VALUE pairs.

    The modules in IMPORTS are imported, and data sets get their registered names.

    Args:
        config_file: path of a YAML file, as read_config() takes it; "" for none.
        opts: KEY VALUE KEY VALUE ..., as on the command line.

    Returns:
        The config, not frozen.

    Raises:
        InputError: a file is missing or refused by read_config(), a key is unknown (the message names the nearest known
            one), a value has the wrong type, opts are not pairs, a module in IMPORTS cannot be imported, or a name can
            be two data sets.
    """
    cfg = get_cfg()
    if config_file:
        if not os.path.isfile(config_file):
            raise InputError(f"config file {config_file} does not exist: give --config-file the path of a YAML file")
        merge_file(cfg, read_config(config_file), f"config file {config_file}")
    opts = list(opts)
    require_pairs(opts, cfg)
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        require_known(key, cfg, "command line")
        merge_key(cfg, key, value, "command line")
    import_modules(cfg.IMPORTS)
    spell_data_sets(cfg)
    return cfg


def spell_data_sets(cfg: CfgNode) -> None:
    """Replaces the names of data sets, which may have any case, dashes and underscores, by the registered names.

    An unknown name stays.

    Raises:
        InputError: a name can be two registered ones.
    """
    known = DATASET_REGISTRY._obj_map
    for key in ("NAMES", "TESTS"):
        names = cfg.DATASETS[key]
        if isinstance(names, (tuple, list)) and all(isinstance(each, str) for each in names):  # otherwise a check fails
            cfg.DATASETS[key] = type(names)(spelled(f"DATASETS.{key}", each, known) for each in names)
    cfg.TEST.PRECISE_BN.DATASET = spelled("TEST.PRECISE_BN.DATASET", cfg.TEST.PRECISE_BN.DATASET, known)


def require_pairs(opts: list[str], cfg: CfgNode) -> None:
    """Raises InputError, which names the likely mistake, if the words are not KEY VALUE pairs; keys may be unknown."""
    known = flat_keys(cfg)
    for key, *value in itertools.zip_longest(opts[::2], opts[1::2]):
        if key in known:
            if value[0] is None or value[0] in known:
                raise InputError(f"command line: {key} has no value: write {key} VALUE, with a space between")
        elif key.endswith((".yml", ".yaml")):
            raise InputError(f"command line: {key} needs --config-file before it: --config-file {key}")
        elif key.startswith("-"):
            raise InputError(f"command line: {key} stands where a key is expected: put options before KEY VALUE pairs")
        elif key.split("=")[0] in known:
            raise InputError(f"command line: {key} has an equals sign: write {key.replace('=', ' ', 1)}")
        elif key.endswith(".pth"):
            raise InputError(
                f"command line: {key} is no key: --resume takes no path (it continues OUTPUT_DIR); a checkpoint to "
                f"start from is MODEL.WEIGHTS {key}"
            )
        elif value[0] is None:
            raise InputError(f"command line: must be KEY VALUE pairs with a space between, got {' '.join(opts)}")


def merge_file(cfg: CfgNode, content: dict, source: str) -> None:
    """Merges the content of a file into `cfg`; raises InputError, which names `source`, for a wrong key or value."""
    with misfits_named(source):
        given = CfgNode(content)
    for key in flat_keys(given):
        require_known(key, cfg, source)
        try:
            value = value_of(given, key)
        except KeyError:
            raise InputError(f"{source}: {key} is one word: nest its parts, one section in another") from None
        merge_key(cfg, key, value, source)


def merge_key(cfg: CfgNode, key: str, value, source: str) -> None:
    """Merges the value of one known key into `cfg`; raises InputError, which names `source`, for a wrong value."""
    default = value_of(cfg, key)
    with misfits_named(f"{source}: {key}"):
        value = CfgNode._decode_cfg_value(value)
        if value is None and default is not None:  # yacs accepts None for every key
            raise ValueError(f"there is no value; its default is {default!r}")
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if key == "MODEL.IGOAS.ID_WEIGHTS" and isinstance(value, (list, tuple)):
            value = " ".join(map(str, value))
        try:
            cfg.merge_from_list([key, value])
        except ValueError:
            raise ValueError(f"it must be {kind_of(default)}, got {value!r}") from None


def kind_of(default) -> str:
    """Returns the kind of the values of a key in words, from its default."""
    if isinstance(default, bool):
        return "True or False"
    if isinstance(default, (list, tuple)):
        return f"a list such as {default}" if default else "a list such as (1, 2) or ('a', 'b')"
    kinds = {int: "a whole number", float: "a number", str: "text (a number as text has quotes inside: \"'5'\")"}
    return kinds.get(type(default), f"of the kind of its default {default!r}")


@contextmanager
def misfits_named(source: str) -> Iterator[None]:
    """Context in which an error of yacs becomes an InputError that names the source."""
    try:
        yield
    # RecursionError, MemoryError: the value is nested too deeply for Python
    except (ValueError, KeyError, AssertionError, OverflowError, RecursionError, MemoryError) as error:
        raise InputError(f"{source}: {one_line(error)}") from None


def value_of(cfg: CfgNode, key: str):
    """Returns the value of a dotted key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def image_size(cfg: CfgNode, split: str) -> list[int]:
    """Returns height and width of the images that a model gets in training ("TRAIN") or evaluation ("TEST")."""
    size = list(cfg.INPUT.CROP.SIZE if cfg.INPUT.CROP.ENABLED else cfg.INPUT[f"SIZE_{split}"])
    return 2 * size if len(size) == 1 else size


def flat_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """Returns all keys that hold a value, dotted."""
    keys = []
    for key, value in cfg.items():
        below = flat_keys(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else []
        keys += below or [f"{prefix}{key}"]
    return keys


def require_known(key: str, cfg: CfgNode, source: str) -> None:
    """Raises InputError, with the nearest known key, if `key` is not a key of `cfg` that holds a value."""
    known = flat_keys(cfg)
    if key in known:
        return
    if any(each.startswith(f"{key}.") for each in known):
        raise InputError(f"{source}: {key} is a section and takes no value itself")
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)
    raise InputError(f"{source}: unknown key {key}; the nearest known key is {nearest[0]}")
