"""Checks of everything a run needs before it starts, so that a run that would fail writes nothing."""

import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, nullcontext

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
from .datasets.market_style import Item
from .datasets.reading import open_data, read_split, read_training, unmatched
from .engine.distributed import under_torchrun
from .evaluation.evaluator import ranks_densely
from .evaluation.ranking.blocks import REMEDY
from .evaluation.ranking.distances import METRICS
from .fastreid_fixes.amp import DTYPES
from .fastreid_fixes.device import usable_device
from .fastreid_fixes.nonfinite import POLICIES
from .modeling.compilation import require_compiler
from .modeling.losses import SuppressionLoss
from .occlusion import OCCLUSION_REGISTRY

logger = logging.getLogger(f"fastreid.{__name__}")  # a child of fast-reid's logger, so that its handlers show it

IDENTITY_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")
PAIR_LOSSES = ("TripletLoss", "CircleLoss", "Cosface")
# Optimisers of torch that train a network with dense gradients
OPTIMIZERS = {name for name, each in vars(torch.optim).items() if isinstance(each, type)} - {"Optimizer", "SparseAdam"}

# The names that each key takes
NAMES = {
    "TEST.METRIC": METRICS,
    "TEST.RANKING": ("auto", "host", "blocked"),
    "SOLVER.OPT": OPTIMIZERS,
    "SOLVER.SCHED": ("MultiStepLR", "CosineAnnealingLR"),
    # without SetReWeightSampler of fast-reid, which fails or never ends for every SET_WEIGHT
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler", *IDENTITY_SAMPLERS, "ImbalancedDatasetSampler"),
    "DATALOADER.ON_ERROR": ("stop", "skip"),
    "SOLVER.ON_NONFINITE": POLICIES,
}
MODEL_NAMES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY._obj_map,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY._obj_map,
    "MODEL.HEADS.NAME": REID_HEADS_REGISTRY._obj_map,
    "MODEL.OCCLUSION.NAME": OCCLUSION_REGISTRY._obj_map,
}
# Numbers that are 0 or more
COUNTS = (
    *("TENSORBOARD.IMAGES_PERIOD", "SOLVER.CHECKPOINT_KEEP", "SOLVER.NONFINITE_LIMIT", "DATALOADER.NUM_WORKERS"),
    "SOLVER.EMA.START",
)


def check_run(cfg, args) -> None:
    """Checks everything a run needs.

    Args:
        cfg: the config of the run.
        args: the command line, as parsed by default_argument_parser() of fast-reid.

    Raises:
        InputError: a setting is wrong (see check_settings()), a data set is missing or too small, the model cannot be
            built, or a file of weights is missing or does not fit the model, or on a resume the optimiser.
    """
    train = not args.eval_only
    check_settings(cfg, processes(args), args.num_gpus, train)
    tested = {
        name: check_test_data(name, cfg.TEST.CAMERA_RULE, cfg.TEST.NFC.ENABLED)
        for name in dict.fromkeys(cfg.DATASETS.TESTS)
    }
    same_process = under_torchrun() or processes(args) == 1  # otherwise the run starts in new processes
    with reading_ahead() if same_process else nullcontext():
        if not train:
            return check_model(cfg)
        identities, images = check_training_data(cfg, tested)
        check_training(cfg, identities, images, resume=args.resume)


def check_settings(cfg, processes: int = 1, per_machine: int = 1, train: bool = True) -> None:
    """Checks everything that needs neither data nor a model.

    Raises:
        InputError: a name is unknown, a number is out of range, settings exclude each other, the device does not
            exist, OUTPUT_DIR cannot be written, or a batch does not divide over the processes.
    """
    check_names(cfg)
    if train:
        check_combinations(cfg)
    ranks_densely(cfg)
    check_device(cfg.MODEL.DEVICE, per_machine)
    check_amp(cfg)
    check_nfc(cfg)
    if train and cfg.MODEL.IGOAS.COMPILE:
        require_compiler(cfg.MODEL.DEVICE)
    check_ranges(cfg)
    check_image_settings(cfg)
    check_output(cfg.OUTPUT_DIR)
    check_batches(cfg, processes, train)


def processes(args) -> int:
    """Returns the number of processes of the run, torchrun's included; fast-reid takes 0 GPUs for one process."""
    return int(os.environ["WORLD_SIZE"]) if under_torchrun() else max(1, args.num_gpus) * args.num_machines


def check_names(cfg) -> None:
    """Raises InputError if a key names nothing registered, or a head that does not fit the model."""
    data_sets = {"DATASETS.NAMES": cfg.DATASETS.NAMES, "DATASETS.TESTS": cfg.DATASETS.TESTS}
    if cfg.TEST.PRECISE_BN.ENABLED:
        data_sets["TEST.PRECISE_BN.DATASET"] = [cfg.TEST.PRECISE_BN.DATASET]
    for key, names in data_sets.items():
        for name in names:
            require_choice(key, name, sorted(DATASET_REGISTRY._obj_map), registered=True)
    for key, known in NAMES.items():
        require_choice(key, value_of(cfg, key), sorted(known))
    check_model_names(cfg)


def check_model_names(cfg) -> None:
    """Raises InputError if a key of the model names nothing registered, or a head that does not fit the model."""
    for key, known in MODEL_NAMES.items():
        require_choice(key, value_of(cfg, key), sorted(known), registered=True)
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture == "OcclusionWrapper":
        architecture = cfg.MODEL.OCCLUSION.WRAPS
        require_choice("MODEL.OCCLUSION.WRAPS", architecture, sorted(META_ARCH_REGISTRY._obj_map), registered=True)
    if cfg.MODEL.HEADS.NAME == "IGOASHead" and META_ARCH_REGISTRY.get(architecture).__module__.startswith("fastreid."):
        raise InputError(
            f"MODEL.HEADS.NAME IGOASHead takes two feature maps, and {architecture} gives one: take EmbeddingHead or "
            "another head for one feature map"
        )


def check_combinations(cfg) -> None:
    """Raises InputError if two settings exclude each other, though each of them is valid."""
    for loss in pair_losses(cfg):
        compares = f"MODEL.LOSSES.NAME {loss} compares images of one identity"
        if cfg.DATALOADER.SAMPLER_TRAIN not in IDENTITY_SAMPLERS:
            raise InputError(
                f"{compares}, but DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN} draws images without regard "
                f"to identity: take {' or '.join(IDENTITY_SAMPLERS)}, or CrossEntropyLoss alone"
            )
        if cfg.DATALOADER.NUM_INSTANCE < 2:
            raise InputError(
                f"{compares}, but a batch holds DATALOADER.NUM_INSTANCE {cfg.DATALOADER.NUM_INSTANCE} image of each: "
                "set it to 2 or more"
            )
    heads = cfg.MODEL.HEADS
    if heads.CLS_LAYER != "Linear" and heads.SCALE <= 1:
        raise InputError(
            f"MODEL.HEADS.CLS_LAYER {heads.CLS_LAYER} gives cosines in [-1, 1], whose softmax cannot separate "
            f"identities: set MODEL.HEADS.SCALE to 16 to 64, got {heads.SCALE}"
        )
    occlusion, on_both_stages = cfg.MODEL.OCCLUSION, SuppressionLoss.from_config(cfg).on_both_stages
    occludes = occlusion.PROB > 0 and occlusion.NAME not in ("NoOcclusion", "BatchDropBlock")
    if cfg.MODEL.META_ARCHITECTURE == "IGOAS" and on_both_stages and not (occludes and occlusion.MASK == "occluded"):
        raise InputError(
            "MODEL.IGOAS.MASK_LOSS.STAGES both supervises a feature map by the mask of the occlusion, but no image is "
            "occluded or the mask is 1 everywhere: set it to last, or MODEL.OCCLUSION.MASK to occluded and "
            "MODEL.OCCLUSION.NAME to a block that occludes images"
        )


def pair_losses(cfg) -> list[str]:
    """Returns the names in MODEL.LOSSES.NAME of losses that compare the images of a batch."""
    return [name for name in cfg.MODEL.LOSSES.NAME if name in PAIR_LOSSES]


def check_device(name: str, processes: int) -> None:
    """Raises InputError if MODEL.DEVICE is not a device, a GPU that torch does not find, or one GPU for several."""
    try:
        device = torch.device(usable_device(name))
    except RuntimeError:
        raise InputError(f"MODEL.DEVICE must be cpu, cuda or cuda:N, got {name}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"MODEL.DEVICE is {name}, but torch finds {torch.cuda.device_count()} GPUs: take a lower number, or cpu"
        )
    if device.index is not None and processes > 1:
        raise InputError(f"MODEL.DEVICE {name} is one GPU for {processes} processes of this machine: set it to cuda")


def check_amp(cfg) -> None:
    """Raises InputError if SOLVER.AMP.DTYPE is unknown, or does not work on MODEL.DEVICE."""
    require_choice("SOLVER.AMP.DTYPE", cfg.SOLVER.AMP.DTYPE, DTYPES)
    if cfg.SOLVER.AMP.DTYPE == "float16" and usable_device(cfg.MODEL.DEVICE) == "cpu":
        raise InputError("SOLVER.AMP.DTYPE float16 needs a GPU, and the model is on the CPU: take bfloat16 or auto")


def check_nfc(cfg) -> None:
    """Raises InputError if a key of TEST.NFC is out of range."""
    nfc = cfg.TEST.NFC
    require_choice("TEST.NFC.SIDES", nfc.SIDES, ("gallery", "both"))
    if nfc.K < 1:
        raise InputError(f"TEST.NFC.K must be 1 or more, got {nfc.K}")
    if not -1 <= nfc.SIMILARITY <= 1:
        raise InputError(f"TEST.NFC.SIMILARITY must be -1 to 1, got {nfc.SIMILARITY}")


def check_ranges(cfg: CfgNode) -> None:
    """Raises InputError if a number of the run is out of range; numbers of a model are checked where it is built."""
    least = dict.fromkeys(COUNTS, 0)
    if cfg.TEST.RERANK.ENABLED:
        least |= {"TEST.RERANK.K1": 1, "TEST.RERANK.K2": 1}
    for key, smallest in least.items():
        if value_of(cfg, key) < smallest:
            raise InputError(f"{key} must be {smallest} or more, got {value_of(cfg, key)}")
    if not 0 <= cfg.SOLVER.EMA.DECAY < 1:
        raise InputError(f"SOLVER.EMA.DECAY must stay in [0, 1), got {cfg.SOLVER.EMA.DECAY}")
    if cfg.SEED >= 2**31:
        raise InputError(f"SEED must be -1, or 0 to 2**31 - 1, got {cfg.SEED}")
    if not all(type(epoch) is int and epoch >= 0 for epoch in cfg.SOLVER.STEPS):
        raise InputError(f"SOLVER.STEPS must be epochs, integers from 0, got {cfg.SOLVER.STEPS}")


def check_image_settings(cfg: CfgNode) -> None:
    """Raises InputError if the images cannot be resized or normalised."""
    # with a crop fast-reid takes one number, the shorter side, or 0 for no resizing
    for key in ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST") if not cfg.INPUT.CROP.ENABLED else ():
        size = value_of(cfg, key)
        if len(size) != 2 or not all(type(pixels) is int and pixels >= 1 for pixels in size):
            raise InputError(f"{key} must be height and width, two integers from 1, got {size}")
    train, test = list(cfg.INPUT.SIZE_TRAIN), list(cfg.INPUT.SIZE_TEST)
    if cfg.MODEL.BACKBONE.NAME == "build_vit_backbone" and train != test and not cfg.INPUT.CROP.ENABLED:
        raise InputError(
            f"a vision transformer takes images of one size, and INPUT.SIZE_TEST is {test}: set it to that of "
            f"INPUT.SIZE_TRAIN, {train}"
        )
    for key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"):
        values = value_of(cfg, key)
        if len(values) not in (1, 3) or not all(type(each) in (int, float) and abs(each) < 1e38 for each in values):
            raise InputError(f"{key} must be three numbers, one for each channel, or one for all, got {values}")
    if min(cfg.MODEL.PIXEL_STD) <= 0:
        raise InputError(f"MODEL.PIXEL_STD must be more than 0, got {cfg.MODEL.PIXEL_STD}")


def check_batches(cfg, processes: int, train: bool) -> None:
    """Raises InputError if a batch does not divide over the processes, or a process gets too few images of it."""
    if processes < 1:
        raise InputError(f"--num-gpus times --num-machines is {processes}: a run has at least one process")
    for key in ("TEST.IMS_PER_BATCH", "SOLVER.IMS_PER_BATCH") if train else ("TEST.IMS_PER_BATCH",):
        size = value_of(cfg, key)
        if size < 1 or size % processes:
            raise InputError(f"{key} is {size}, which does not divide over {processes} processes: take a multiple")
    if train:
        check_training_batch(cfg, cfg.SOLVER.IMS_PER_BATCH // processes)


def check_training_batch(cfg, images: int) -> None:
    """Raises InputError if BatchNorm, the sampler or the losses need another number of images in a process."""
    sampler, instances = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.NUM_INSTANCE
    if images < 2:
        raise InputError("SOLVER.IMS_PER_BATCH gives a process one image: BatchNorm needs 2 or more in training")
    if sampler not in IDENTITY_SAMPLERS:
        return
    if not 1 <= instances <= images or images % instances:
        raise InputError(
            f"{sampler} needs a multiple of DATALOADER.NUM_INSTANCE {instances} images a process, "
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} gives {images}"
        )
    if images == instances and pair_losses(cfg):
        raise InputError(
            f"MODEL.LOSSES.NAME compares images of different identities, and a process gets {images} images of one "
            f"(DATALOADER.NUM_INSTANCE {instances}): raise SOLVER.IMS_PER_BATCH, or lower NUM_INSTANCE"
        )


def check_test_data(name: str, camera_rule: bool = True, nfc: bool = False) -> set[str]:
    """Checks a test set, warns of queries without a match, and returns the paths of query and gallery.

    Args:
        camera_rule: TEST.CAMERA_RULE. Without it a query that is also a gallery image finds itself: a warning.
        nfc: TEST.NFC.ENABLED. With it a gallery with one image of most people is a warning.

    Raises:
        InputError: the data set is missing or has no query to rank.
    """
    data = open_data(name)
    query, gallery = (read_split(name, data, part) for part in ("query", "gallery"))
    for part, items in (("query", query), ("gallery", gallery)):
        if not items:
            raise InputError(f"data set {name}: its {part} has no image; docs/data.md shows its layout")
    left_out = unmatched(query, gallery, camera_rule)
    if len(left_out) == len(query):
        if camera_rule:
            raise InputError(
                f"data set {name}: no query has an image of its identity and of another camera in the gallery, and "
                f"gallery images of the query's own camera are left out: {REMEDY}"
            )
        raise InputError(f"data set {name}: no query has an image of its identity in the gallery")
    if len(left_out) > getattr(data, "without_match", 0):  # of the protocol
        logger.warning(
            "data set %s: %d of %d queries have no image of their identity%s in the gallery; "
            "every metric leaves them out; the first is %s",
            *(name, len(left_out), len(query), " and of another camera" if camera_rule else ""),
            os.path.abspath(left_out[0]),
        )
    images = Counter(identity for _, identity, *_ in gallery)
    single = sum(count == 1 for count in images.values())
    if nfc and 2 * single > len(images):
        logger.warning(
            "data set %s: %d of %d people in the gallery have one image, so that TEST.NFC adds images of others: set "
            "TEST.NFC.ENABLED False for this set, or raise TEST.NFC.SIMILARITY",
            *(name, single, len(images)),
        )
    query_paths, gallery_paths = ({path for path, *_ in items} for items in (query, gallery))
    found_again = query_paths & gallery_paths
    if found_again and not camera_rule:
        logger.warning(
            "data set %s: %d of %d queries are gallery images too, and each of them finds itself first, because "
            "TEST.CAMERA_RULE is False: take them out of the gallery",
            *(name, len(found_again), len(query)),
        )
    return query_paths | gallery_paths


def check_training_data(cfg, tested: Mapping[str, Set[str]] | None = None) -> tuple[int, int]:
    """Returns the numbers of identities and images of the training set, and warns of test images in it.

    Args:
        tested: {name of a test set: paths of its query and gallery}.

    Raises:
        InputError: a data set is missing, smaller than a batch, or has too few identities for the sampler.
    """
    if cfg.TEST.PRECISE_BN.ENABLED:
        name = cfg.TEST.PRECISE_BN.DATASET
        training_images(cfg, f"TEST.PRECISE_BN.DATASET {name}", [name])
    items = training_images(cfg, f"the training set {', '.join(cfg.DATASETS.NAMES)}", cfg.DATASETS.NAMES)
    warn_of_trained_tests({path for path, *_ in items}, tested or {}, cfg.DATASETS.COMBINEALL)
    return len({identity for _, identity, *_ in items}), len(items)


def warn_of_trained_tests(trained: Set[str], tested: Mapping[str, Set[str]], combineall: bool) -> None:
    """Logs one warning that names the test sets of which images are trained on too, as DATASETS.COMBINEALL does it."""
    names = [name for name, paths in tested.items() if not trained.isdisjoint(paths)]
    if names:
        logger.warning(
            "images of query or gallery of %s are trained on too%s: the figures there do not tell how the model ranks "
            "people that it has not seen",
            *(", ".join(names), " (DATASETS.COMBINEALL)" if combineall else ""),
        )


def training_images(cfg, name: str, parts: Sequence[str]) -> list[Item]:
    """Returns the images of data sets that are trained on together.

    Raises:
        InputError: there are too few images for a batch, or too few identities for the sampler.
    """
    items = read_training(parts, combineall=cfg.DATASETS.COMBINEALL)
    identities = len({item[1] for item in items})
    batch, sampler = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.SAMPLER_TRAIN
    if not items:
        raise InputError(
            f"{name} has no training images, because it is a set for testing: train on another one, such as Market1501"
        )
    if len(items) < batch:
        raise InputError(
            f"SOLVER.IMS_PER_BATCH is {batch} but {name} has only {len(items)} images: lower SOLVER.IMS_PER_BATCH"
        )
    wanted = batch // max(cfg.DATALOADER.NUM_INSTANCE, 1)
    if sampler in IDENTITY_SAMPLERS and identities < wanted:
        raise InputError(
            f"{sampler} needs SOLVER.IMS_PER_BATCH / DATALOADER.NUM_INSTANCE = {wanted} identities, {name} has "
            f"{identities}"
        )
    return items


def check_model(cfg) -> None:
    """Checks that the model can be built and that MODEL.WEIGHTS fits it."""
    model = build_model_shapes(cfg, identities=0)  # as the run builds it
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
    if cfg.SOLVER.EMA.ENABLED and cfg.SOLVER.EMA.START >= cfg.SOLVER.MAX_EPOCH:
        raise InputError(
            f"SOLVER.EMA.START {cfg.SOLVER.EMA.START} leaves no epoch of SOLVER.MAX_EPOCH {cfg.SOLVER.MAX_EPOCH} to "
            "average: lower it, or set SOLVER.EMA.ENABLED to False"
        )
    if not cfg.DATASETS.TESTS:
        raise InputError("DATASETS.TESTS names no data set: fast-reid evaluates at the end of a training")
    if 0 < cfg.MODEL.HEADS.NUM_CLASSES < identities:
        raise InputError(
            f"MODEL.HEADS.NUM_CLASSES is {cfg.MODEL.HEADS.NUM_CLASSES}, the training set has {identities} identities: "
            "leave it 0, and it is counted"
        )
    # pretrained weights are downloaded here if they are missing, by one process of a machine
    first = not under_torchrun() or os.environ["LOCAL_RANK"] == "0"
    model = build_model_shapes(cfg, identities, pretrain=cfg.MODEL.BACKBONE.PRETRAIN and first)
    try:
        optimizer = build_optimizer(cfg, model)[0]
        schedules = build_lr_scheduler(cfg, optimizer, images // cfg.SOLVER.IMS_PER_BATCH)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"fast-reid cannot build an optimiser from the keys of SOLVER: {error}") from error
    if getattr(schedules["lr_sched"], "T_max", 1) < 1:  # fast-reid would divide by it at the end of the warm-up
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
