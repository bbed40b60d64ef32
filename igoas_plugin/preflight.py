"""Checks of everything a run needs before it starts, so that a run that would fail writes nothing."""

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY, build_model
from fastreid.solver import build_lr_scheduler, build_optimizer
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from .checkpoint.read_ahead import reading_ahead
from .config import value_of
from .core.errors import InputError, require_choice
from .core.files import check_output
from .datasets.reading import open_data, read_split, unmatched
from .engine.distributed import under_torchrun
from .evaluation.evaluator import ranks_on_host
from .evaluation.ranking.distances import METRICS
from .fastreid_fixes.amp import DTYPES
from .fastreid_fixes.device import usable_device
from .fastreid_fixes.nonfinite import POLICIES
from .modeling.compilation import require_compiler
from .occlusion import OCCLUSION_REGISTRY

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of the host's logger: shown where the host's lines are

# Names that the host accepts and keeps in no registry; without what cannot train a network with dense gradients
NO_OPTIMIZERS = ("Optimizer", "SparseAdam")
OPTIMIZERS = [name for name, each in vars(torch.optim).items() if isinstance(each, type) and name not in NO_OPTIMIZERS]
LR_SCHEDULES = ("MultiStepLR", "CosineAnnealingLR")
IDENTITY_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")
# without the host's SetReWeightSampler, which fails or never ends, whatever SET_WEIGHT is
SAMPLERS = ("TrainingSampler", *IDENTITY_SAMPLERS, "ImbalancedDatasetSampler")

ON_ERROR = ("stop", "skip")
RANKINGS = ("auto", "host", "blocked")


def check_run(cfg, args) -> None:
    """Looks at everything a run needs.

    Args:
        cfg: the config of the run.
        args: the command line, as the host's default_argument_parser() gives it.

    Raises:
        InputError: a name is unknown, OUTPUT_DIR cannot be written, a batch does not divide over the processes or is
            larger than the training set, a data set's folder is missing or empty, a key of the model has a value out
            of range, or a file of weights is missing or does not fit the model, or on a resume the optimiser.
    """
    train = not args.eval_only
    check_settings(cfg, processes(args), args.num_gpus, train)
    for name in cfg.DATASETS.TESTS:
        check_test_data(name)
    same_process = under_torchrun() or processes(args) == 1  # otherwise the run starts in new processes
    with reading_ahead() if same_process else nullcontext():
        if not train:
            return check_model(cfg)
        identities, images = check_training_data(cfg)
        check_training(cfg, identities, images, resume=args.resume)


def check_settings(cfg, processes: int = 1, per_machine: int = 1, train: bool = True) -> None:
    """Looks at what needs neither data nor a model.

    Raises:
        InputError: a name is unknown, a number is out of range, settings make no sense together, the device is none,
            OUTPUT_DIR cannot be written, or a batch does not divide.
    """
    check_names(cfg)
    if train:
        refuse_combinations(cfg)
    ranks_on_host(cfg)
    check_device(cfg.MODEL.DEVICE, per_machine)
    check_amp(cfg)
    if train and cfg.MODEL.IGOAS.COMPILE:
        require_compiler(cfg.MODEL.DEVICE)
    check_ranges(cfg)
    check_output(cfg.OUTPUT_DIR)
    check_batches(cfg, processes, train)


def processes(args) -> int:
    """How many processes the run has, torchrun's included; the host takes 0 GPUs for one process."""
    return int(os.environ["WORLD_SIZE"]) if under_torchrun() else max(1, args.num_gpus) * args.num_machines


def check_names(cfg) -> None:
    """Raises InputError where a key names something that is not registered, or a head that is not for the model."""
    names = [
        *((DATASET_REGISTRY._obj_map, "DATASETS.NAMES", name) for name in cfg.DATASETS.NAMES),
        *((DATASET_REGISTRY._obj_map, "DATASETS.TESTS", name) for name in cfg.DATASETS.TESTS),
        (METRICS, "TEST.METRIC", cfg.TEST.METRIC),
        (RANKINGS, "TEST.RANKING", cfg.TEST.RANKING),
        (OPTIMIZERS, "SOLVER.OPT", cfg.SOLVER.OPT),
        (LR_SCHEDULES, "SOLVER.SCHED", cfg.SOLVER.SCHED),
        (SAMPLERS, "DATALOADER.SAMPLER_TRAIN", cfg.DATALOADER.SAMPLER_TRAIN),
        (ON_ERROR, "DATALOADER.ON_ERROR", cfg.DATALOADER.ON_ERROR),
        (POLICIES, "SOLVER.ON_NONFINITE", cfg.SOLVER.ON_NONFINITE),
    ]
    if cfg.TEST.PRECISE_BN.ENABLED:
        names.append((DATASET_REGISTRY._obj_map, "TEST.PRECISE_BN.DATASET", cfg.TEST.PRECISE_BN.DATASET))
    require_names(names)
    check_model_names(cfg)


def check_model_names(cfg) -> None:
    """Raises InputError where a key of the model names nothing registered, or a head that is not for the model."""
    names = [
        (META_ARCH_REGISTRY._obj_map, "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE),
        (BACKBONE_REGISTRY._obj_map, "MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME),
        (REID_HEADS_REGISTRY._obj_map, "MODEL.HEADS.NAME", cfg.MODEL.HEADS.NAME),
        (OCCLUSION_REGISTRY._obj_map, "MODEL.OCCLUSION.NAME", cfg.MODEL.OCCLUSION.NAME),
    ]
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture == "OcclusionWrapper":
        architecture = cfg.MODEL.OCCLUSION.WRAPS
        names.append((META_ARCH_REGISTRY._obj_map, "MODEL.OCCLUSION.WRAPS", architecture))
    require_names(names)
    if cfg.MODEL.HEADS.NAME == "IGOASHead" and META_ARCH_REGISTRY.get(architecture).__module__.startswith("fastreid."):
        raise InputError(
            f"MODEL.HEADS.NAME IGOASHead is for two branches: {architecture} needs a head for one feature map, such as "
            "EmbeddingHead"
        )


def require_names(names: list[tuple[Iterable[str], str, str]]) -> None:
    """Raises InputError for the first of (known names, key, name) whose name is not known."""
    for known, key, name in names:
        require_choice(key, name, sorted(known))


def check_amp(cfg) -> None:
    """Raises InputError where SOLVER.AMP.DTYPE is none, or not for MODEL.DEVICE."""
    require_choice("SOLVER.AMP.DTYPE", cfg.SOLVER.AMP.DTYPE, DTYPES)
    if cfg.SOLVER.AMP.DTYPE == "float16" and usable_device(cfg.MODEL.DEVICE) == "cpu":
        raise InputError("SOLVER.AMP.DTYPE float16 is for a GPU, and the model is on the CPU: take bfloat16 or auto")


def check_device(name: str, processes: int) -> None:
    """Raises InputError where MODEL.DEVICE is no device, a GPU that torch does not find, or one GPU for several."""
    try:
        device = torch.device(usable_device(name))
    except RuntimeError:
        raise InputError(f"MODEL.DEVICE: {name} is no device; take cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"MODEL.DEVICE is {name}, but torch finds {torch.cuda.device_count()} GPUs")
    if device.index is not None and processes > 1:
        raise InputError(f"MODEL.DEVICE {name} is one GPU for {processes} processes of this machine: write cuda")


def check_batches(cfg, processes: int, train: bool) -> None:
    """Raises InputError where a batch does not divide over the processes, or not into what each of them needs."""
    if processes < 1:
        raise InputError(f"--num-gpus times --num-machines is {processes}: a run has at least one process")
    sizes = {"TEST.IMS_PER_BATCH": cfg.TEST.IMS_PER_BATCH}
    if train:
        sizes["SOLVER.IMS_PER_BATCH"] = cfg.SOLVER.IMS_PER_BATCH
    for key, size in sizes.items():
        if size < 1 or size % processes:
            raise InputError(f"{key} is {size}, which does not divide over {processes} processes: take a multiple")
    sampler, instances = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.NUM_INSTANCE
    images = cfg.SOLVER.IMS_PER_BATCH // processes
    if train and images < 2:
        raise InputError("SOLVER.IMS_PER_BATCH gives a process one image: BatchNorm trains on 2 or more")
    if train and sampler in IDENTITY_SAMPLERS and (not 1 <= instances <= images or images % instances):
        raise InputError(
            f"{sampler} needs a multiple of DATALOADER.NUM_INSTANCE {instances} images a process, "
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} gives {images}"
        )
    if train and sampler in IDENTITY_SAMPLERS and images == instances and pair_losses(cfg):
        raise InputError(
            f"MODEL.LOSSES.NAME compares images of different identities, and a process gets {images} images of one "
            f"(DATALOADER.NUM_INSTANCE {instances}): raise SOLVER.IMS_PER_BATCH, or lower NUM_INSTANCE"
        )


def check_test_data(name: str) -> None:
    """Raises InputError where a data set is missing, or no query of it has anything to be ranked with."""
    data = open_data(name)
    for part in ("query", "gallery"):
        if not read_split(name, data, part):
            raise InputError(f"data set {name}: its {part} has no image; README.md, section Data, shows its layout")
    left_out = unmatched(data.query, data.gallery)
    if len(left_out) == len(data.query):
        raise InputError(
            f"data set {name}: no query has an image of its identity and of another camera in the gallery, so there is "
            "nothing to rank: gallery images of the query's own camera are left out"
        )
    if left_out:
        logger.warning(
            "data set %s: %d of %d queries have no image of their identity and of another camera in the gallery; the "
            "host leaves them out of every metric; the first is %s",
            *(name, len(left_out), len(data.query), os.path.abspath(left_out[0])),
        )


def check_training_data(cfg) -> tuple[int, int]:
    """Numbers of identities and images of the training set.

    Raises:
        InputError: a data set is missing, smaller than a batch, or has too few identities for the sampler.
    """

    def training_images(names) -> list:
        return [item for name in names for item in open_data(name, combineall=cfg.DATASETS.COMBINEALL).train]

    items = training_images(cfg.DATASETS.NAMES)
    sets = {f"the training set {', '.join(cfg.DATASETS.NAMES)}": items}
    if cfg.TEST.PRECISE_BN.ENABLED:
        sets[f"TEST.PRECISE_BN.DATASET {cfg.TEST.PRECISE_BN.DATASET}"] = training_images([cfg.TEST.PRECISE_BN.DATASET])
    for what, images in sets.items():
        if not images:
            raise InputError(
                f"{what} has no training images: it is a set for testing; train on another, such as Market1501"
            )
        if len(images) < cfg.SOLVER.IMS_PER_BATCH:
            raise InputError(
                f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH} but {what} has only {len(images)} images: "
                "lower SOLVER.IMS_PER_BATCH"
            )
        wanted = cfg.SOLVER.IMS_PER_BATCH // max(cfg.DATALOADER.NUM_INSTANCE, 1)
        if cfg.DATALOADER.SAMPLER_TRAIN in IDENTITY_SAMPLERS and identities_of(images) < wanted:
            raise InputError(
                f"{cfg.DATALOADER.SAMPLER_TRAIN} needs SOLVER.IMS_PER_BATCH / DATALOADER.NUM_INSTANCE = {wanted} "
                f"identities, {what} has {identities_of(images)}"
            )
    return identities_of(items), len(items)


def identities_of(items: list) -> int:
    return len({identity for _, identity, _ in items})


def check_model(cfg) -> None:
    """Checks that the model can be built and that MODEL.WEIGHTS fits it."""
    model = build_model_shapes(cfg, identities=1)
    if cfg.MODEL.WEIGHTS:
        with without_copying():
            Checkpointer(model).load(cfg.MODEL.WEIGHTS)


def check_training(cfg, identities: int, images: int, resume: bool) -> None:
    """Checks that model, optimiser and schedules can be built, and that the files that the run loads fit them.

    Raises:
        InputError: one of them cannot be built, or a file is missing or does not fit.
    """
    if cfg.SOLVER.MAX_EPOCH < 1:
        raise InputError(f"SOLVER.MAX_EPOCH must be 1 or more, got {cfg.SOLVER.MAX_EPOCH}")
    if not cfg.DATASETS.TESTS:
        raise InputError("DATASETS.TESTS names no data set: the host evaluates at the end of a training")
    if 0 < cfg.MODEL.HEADS.NUM_CLASSES < identities:
        raise InputError(
            f"MODEL.HEADS.NUM_CLASSES is {cfg.MODEL.HEADS.NUM_CLASSES}, the training set has {identities} identities: "
            "leave it 0, and it is counted"
        )
    # weights that must be fetched are fetched here, by one process of a machine
    first = not under_torchrun() or os.environ["LOCAL_RANK"] == "0"
    model = build_model_shapes(cfg, identities, pretrain=cfg.MODEL.BACKBONE.PRETRAIN and first)
    try:
        optimizer = build_optimizer(cfg, model)[0]
        schedules = build_lr_scheduler(cfg, optimizer, images // cfg.SOLVER.IMS_PER_BATCH)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the host can build no optimiser from the keys of SOLVER: {error}") from error
    if getattr(schedules["lr_sched"], "T_max", 1) < 1:  # the host would divide by it at the end of the warm-up
        raise InputError(
            f"SOLVER.WARMUP_ITERS {cfg.SOLVER.WARMUP_ITERS} leaves CosineAnnealingLR no epoch of SOLVER.MAX_EPOCH "
            f"{cfg.SOLVER.MAX_EPOCH}: lower the one or raise the other"
        )
    run = Checkpointer(model, cfg.OUTPUT_DIR, optimizer=optimizer, **schedules)
    with without_copying():
        run.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)


def build_model_shapes(cfg, identities: int, pretrain: bool = False) -> nn.Module:
    """Builds the model on torch's meta device, with names and shapes but no values; only the run builds the values.

    A model that torch cannot build there, such as fast-reid's vision transformer, is built on the CPU.
    """
    try:
        with torch.device("meta"), without_copying():
            return build_scratch_model(cfg, identities, pretrain, device="meta")
    except InputError:
        raise
    except Exception:
        return build_scratch_model(cfg, identities, pretrain)


@contextmanager
def without_copying() -> Iterator[None]:
    """Context in which torch does not warn that loading weights into a model on the meta device copies nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*which is a no-op")
        yield


def build_scratch_model(cfg, identities: int, pretrain: bool = False, device: str = "cpu") -> nn.Module:
    """Builds the model of a config for so many identities, with values if the device is not "meta"."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.DEVICE = pretrain, device
    cfg.MODEL.HEADS.NUM_CLASSES = cfg.MODEL.HEADS.NUM_CLASSES or identities
    return build_model(cfg)


# Settings that are valid each, but make no sense together

PAIR_LOSSES = ("TripletLoss", "CircleLoss", "Cosface")


class Combination(NamedTuple):
    """One that makes no sense.

    Args:
        title: what goes with what, for the documentation.
        is_in: whether a config has it.
        reason: why, and what to do instead; the end of a message.
    """

    title: str
    is_in: Callable[[CfgNode], bool]
    reason: str


def pair_losses(cfg: CfgNode) -> list[str]:
    return [name for name in cfg.MODEL.LOSSES.NAME if name in PAIR_LOSSES]


def on_both_stages(cfg: CfgNode) -> bool:
    keys = cfg.MODEL.IGOAS.MASK_LOSS
    return keys.STAGES == "both" and keys.SCALE > 0 and len(keys.BRANCHES) > 0


def occludes_images(cfg: CfgNode) -> bool:
    keys = cfg.MODEL.OCCLUSION
    return keys.MASK == "occluded" and keys.PROB > 0 and keys.NAME not in ("NoOcclusion", "BatchDropBlock")


COMBINATIONS = (
    Combination(
        "a loss of pairs with batches that are drawn without regard to identities",
        lambda cfg: bool(pair_losses(cfg)) and cfg.DATALOADER.SAMPLER_TRAIN not in IDENTITY_SAMPLERS,
        "MODEL.LOSSES.NAME compares images of one identity, and DATALOADER.SAMPLER_TRAIN puts hardly any into a batch: "
        "take NaiveIdentitySampler or BalancedIdentitySampler, or CrossEntropyLoss alone",
    ),
    Combination(
        "a loss of pairs with one image of each identity",
        lambda cfg: (
            bool(pair_losses(cfg))
            and cfg.DATALOADER.SAMPLER_TRAIN in IDENTITY_SAMPLERS
            and cfg.DATALOADER.NUM_INSTANCE < 2
        ),
        "MODEL.LOSSES.NAME compares images of one identity: DATALOADER.NUM_INSTANCE must be 2 or more",
    ),
    Combination(
        "a softmax of cosines without a scale",
        lambda cfg: cfg.MODEL.HEADS.CLS_LAYER != "Linear" and cfg.MODEL.HEADS.SCALE <= 1,
        "MODEL.HEADS.CLS_LAYER gives cosines, between -1 and 1, and their softmax cannot tell identities apart: set "
        "MODEL.HEADS.SCALE, as a rule to 16 to 64",
    ),
    Combination(
        "the suppression loss on both stages without occluded images",
        lambda cfg: cfg.MODEL.META_ARCHITECTURE == "IGOAS" and on_both_stages(cfg) and not occludes_images(cfg),
        "MODEL.IGOAS.MASK_LOSS.STAGES both needs images that are occluded and a mask that tells where: take STAGES "
        "last, or MODEL.OCCLUSION.MASK occluded and a MODEL.OCCLUSION.NAME that occludes images",
    ),
)


def refuse_combinations(cfg: CfgNode) -> None:
    """Raises InputError where a config has one of COMBINATIONS."""
    for each in COMBINATIONS:
        if each.is_in(cfg):
            raise InputError(f"{each.title} makes no sense: {each.reason}")


# Ranges of single numbers

# The least value of each key
LEAST = {
    "TENSORBOARD.IMAGES_PERIOD": 0,
    "SOLVER.CHECKPOINT_KEEP": 0,
    "SOLVER.NONFINITE_LIMIT": 0,
    "DATALOADER.NUM_WORKERS": 0,
}
LEAST_OF_RERANKING = {"TEST.RERANK.K1": 1, "TEST.RERANK.K2": 1}  # of TEST.RERANK.ENABLED


def check_ranges(cfg: CfgNode) -> None:
    """Raises InputError where a number, or a list of them, is none that the run could use."""
    least = {**LEAST, **LEAST_OF_RERANKING} if cfg.TEST.RERANK.ENABLED else LEAST
    for key, smallest in least.items():
        if value_of(cfg, key) < smallest:
            raise InputError(f"{key} must be {smallest} or more, got {value_of(cfg, key)}")
    if cfg.SEED >= 2**31:
        raise InputError(f"SEED must be -1, or 0 to 2**31 - 1, got {cfg.SEED}")
    if not all(is_whole(epoch) and epoch >= 0 for epoch in cfg.SOLVER.STEPS):
        raise InputError(f"SOLVER.STEPS must be epochs, whole numbers from 0, got {cfg.SOLVER.STEPS}")
    check_images(cfg)


def check_images(cfg: CfgNode) -> None:
    """Raises InputError where sizes of images are none, or the channels cannot be normalised."""
    # a crop gives images of one size; the host then takes one number, the shorter side, or 0 for no resizing
    for key in ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST") if not cfg.INPUT.CROP.ENABLED else ():
        size = value_of(cfg, key)
        if len(size) != 2 or not all(is_whole(pixels) and pixels >= 1 for pixels in size):
            raise InputError(f"{key} must be height and width, two whole numbers from 1, got {size}")
    for key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"):
        values = value_of(cfg, key)
        if len(values) not in (1, 3) or not all(is_finite(value) for value in values):
            raise InputError(f"{key} must be three numbers, one a channel, or one for all, got {values}")
    if min(cfg.MODEL.PIXEL_STD) <= 0:
        raise InputError(f"MODEL.PIXEL_STD must be more than 0, got {cfg.MODEL.PIXEL_STD}")


def is_whole(value) -> bool:
    return type(value) is int


def is_finite(value) -> bool:
    """Whether a value is a number that a float holds."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False
