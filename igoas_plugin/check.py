"""What a run needs is looked at before it starts: a run that cannot be writes and overwrites nothing."""

import os

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY, build_model
from fastreid.utils.checkpoint import Checkpointer

from .errors import InputError
from .host.distributed import under_torchrun
from .host.freezing import FreezePlan
from .host.pretrained import find_weights
from .occlusion import OCCLUSION_REGISTRY

SAMPLERS = (
    "TrainingSampler",
    "NaiveIdentitySampler",
    "BalancedIdentitySampler",
    "SetReWeightSampler",
    "ImbalancedDatasetSampler",
)


def check_run(cfg, args) -> None:
    """Looks at everything a run needs.

    Args:
        cfg: the config of the run.
        args: the command line, as the host's default_argument_parser() gives it.

    Raises:
        InputError: a registered name is unknown, OUTPUT_DIR cannot be written, a batch does not divide over the
            processes or is larger than the training set, a data set's folder is missing or empty, a key of the model
            has a value out of range, or a file of weights is missing or does not fit.
    """
    train = not args.eval_only
    check_names(cfg)
    check_output(cfg.OUTPUT_DIR)
    check_batches(cfg, processes(args), train)
    FreezePlan.from_config(cfg)
    check_data(cfg, train)
    check_model(cfg, train, resume=args.resume)


def processes(args) -> int:
    """How many processes the run has, torchrun's included; the host takes 0 GPUs for one process."""
    return int(os.environ["WORLD_SIZE"]) if under_torchrun() else max(1, args.num_gpus) * args.num_machines


def check_names(cfg) -> None:
    tests = [*cfg.DATASETS.TESTS, *([cfg.TEST.PRECISE_BN.DATASET] if cfg.TEST.PRECISE_BN.ENABLED else [])]
    names = [
        (META_ARCH_REGISTRY, "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE),
        (BACKBONE_REGISTRY, "MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME),
        (REID_HEADS_REGISTRY, "MODEL.HEADS.NAME", cfg.MODEL.HEADS.NAME),
        (OCCLUSION_REGISTRY, "MODEL.OCCLUSION.NAME", cfg.MODEL.OCCLUSION.NAME),
        *((DATASET_REGISTRY, "DATASETS.NAMES", name) for name in cfg.DATASETS.NAMES),
        *((DATASET_REGISTRY, "DATASETS.TESTS", name) for name in tests),
    ]
    if cfg.MODEL.META_ARCHITECTURE == "OcclusionWrapper":
        names.append((META_ARCH_REGISTRY, "MODEL.OCCLUSION.WRAPS", cfg.MODEL.OCCLUSION.WRAPS))
    for registry, key, name in names:
        known = registry._obj_map
        if name not in known:
            raise InputError(f"{key}: {name} is not registered; known: {', '.join(sorted(known))}")


def check_output(folder: str) -> None:
    existing = os.path.abspath(folder)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not folder or not os.path.isdir(existing) or not os.access(existing, os.W_OK):
        raise InputError(f"OUTPUT_DIR {folder!r} cannot be written: name a folder that can be created")


def check_batches(cfg, processes: int, train: bool) -> None:
    if processes < 1:
        raise InputError(f"--num-gpus times --num-machines is {processes}: a run has at least one process")
    sizes = {"TEST.IMS_PER_BATCH": cfg.TEST.IMS_PER_BATCH}
    if train:
        sizes["SOLVER.IMS_PER_BATCH"] = cfg.SOLVER.IMS_PER_BATCH
    for key, size in sizes.items():
        if size < 1 or size % processes:
            raise InputError(f"{key} is {size}, which does not divide over {processes} processes: take a multiple")
    if not train:
        return
    sampler, instances = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.NUM_INSTANCE
    if sampler not in SAMPLERS:
        raise InputError(f"DATALOADER.SAMPLER_TRAIN: unknown sampler {sampler}; known: {', '.join(SAMPLERS)}")
    if "Identity" in sampler and cfg.SOLVER.IMS_PER_BATCH // processes < instances:
        raise InputError(
            f"{sampler} needs at least DATALOADER.NUM_INSTANCE {instances} images a process, "
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} gives {cfg.SOLVER.IMS_PER_BATCH // processes}"
        )


def check_data(cfg, train: bool) -> None:
    images = 0
    if train:
        images = sum(len(open_data(name, combineall=cfg.DATASETS.COMBINEALL).train) for name in cfg.DATASETS.NAMES)
        if images < cfg.SOLVER.IMS_PER_BATCH:
            raise InputError(
                f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH} but the training set "
                f"{', '.join(cfg.DATASETS.NAMES)} has only {images} images: lower SOLVER.IMS_PER_BATCH"
            )
    for name in cfg.DATASETS.TESTS:
        data = open_data(name)
        for part in ("query", "gallery"):
            if not getattr(data, part):
                raise InputError(f"data set {name}: its {part} has no image; README.md, section Data, shows its layout")


def open_data(name: str, **kwargs):
    root = os.getenv("FASTREID_DATASETS", "datasets")
    try:
        return DATASET_REGISTRY.get(name)(root=root, **kwargs)
    except (RuntimeError, OSError) as error:  # how the host says that a folder is missing
        raise InputError(
            f"data set {name}: {error}; put it there, or set the environment variable FASTREID_DATASETS (now {root}) "
            "to the folder that holds the data sets; README.md, section Data, shows each layout"
        ) from None


def check_model(cfg, train: bool, resume: bool) -> None:
    """Builds a model that is thrown away, and loads what the run would load."""
    if train and cfg.MODEL.BACKBONE.PRETRAIN and cfg.MODEL.BACKBONE.PRETRAIN_PATH:
        find_weights(cfg.MODEL.BACKBONE)
    path = Checkpointer(None, cfg.OUTPUT_DIR).get_checkpoint_file() if train and resume else ""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.DEVICE = False, "cpu"
    cfg.MODEL.HEADS.NUM_CLASSES = cfg.MODEL.HEADS.NUM_CLASSES or 1
    model = build_model(cfg)
    if path or cfg.MODEL.WEIGHTS:
        Checkpointer(model).load(path or cfg.MODEL.WEIGHTS, checkpointables=[])
