"""What a run needs is looked at before it starts: a run that cannot be writes and overwrites nothing."""

import os

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY, build_model
from fastreid.utils.checkpoint import Checkpointer

from .errors import InputError
from .host.freezing import FreezePlan
from .occlusion import OCCLUSION_REGISTRY, build_occlusion


def check_run(cfg, args) -> None:
    """Looks at everything a run needs.

    Args:
        cfg: the config of the run.
        args: the command line, as the host's default_argument_parser() gives it.

    Raises:
        InputError: a registered name is unknown, a batch does not divide over the processes or is larger than the
            training set, a data set's folder is missing, a key of the occlusion or freezing has a value out of range,
            or a checkpoint is missing or does not fit.
    """
    check_names(cfg)
    check_batch(cfg, processes(args))
    if cfg.MODEL.META_ARCHITECTURE in ("IGOAS", "OcclusionWrapper"):
        build_occlusion(cfg)
    FreezePlan.from_config(cfg)
    check_data(cfg, train=not args.eval_only)
    check_weights(cfg, resume=args.resume and not args.eval_only)


def processes(args) -> int:
    """How many processes the run has, torchrun's included."""
    return int(os.environ.get("WORLD_SIZE", args.num_gpus * args.num_machines))


def check_names(cfg) -> None:
    for registry, key, name in (
        (META_ARCH_REGISTRY, "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE),
        (BACKBONE_REGISTRY, "MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME),
        (REID_HEADS_REGISTRY, "MODEL.HEADS.NAME", cfg.MODEL.HEADS.NAME),
        (OCCLUSION_REGISTRY, "MODEL.OCCLUSION.NAME", cfg.MODEL.OCCLUSION.NAME),
        *((DATASET_REGISTRY, "DATASETS.NAMES", name) for name in cfg.DATASETS.NAMES),
        *((DATASET_REGISTRY, "DATASETS.TESTS", name) for name in cfg.DATASETS.TESTS),
    ):
        known = registry._obj_map
        if name not in known:
            raise InputError(f"{key}: {name} is not registered; known: {', '.join(sorted(known))}")


def check_batch(cfg, processes: int) -> None:
    for key, size in (
        ("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH),
        ("TEST.IMS_PER_BATCH", cfg.TEST.IMS_PER_BATCH),
    ):
        if size < 1 or size % processes:
            raise InputError(
                f"{key} is {size}, which does not divide over {processes} processes: take a multiple of it"
            )


def check_data(cfg, train: bool) -> None:
    root = os.getenv("FASTREID_DATASETS", "datasets")
    images = 0
    for name in dict.fromkeys((*(cfg.DATASETS.NAMES if train else ()), *cfg.DATASETS.TESTS)):
        try:
            data = DATASET_REGISTRY.get(name)(root=root)
        except RuntimeError as error:  # how the host says that a folder is missing
            raise InputError(
                f"data set {name}: {error}; put it there, or set the environment variable FASTREID_DATASETS (now "
                f"{root}) to the folder that holds the data sets; README.md, section Data, shows each layout"
            ) from None
        if train and name in cfg.DATASETS.NAMES:
            images += len(data.train)
    if train and images < cfg.SOLVER.IMS_PER_BATCH:
        raise InputError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH} but the training set {', '.join(cfg.DATASETS.NAMES)} "
            f"has only {images} images: an epoch would have no step; lower SOLVER.IMS_PER_BATCH"
        )


def check_weights(cfg, resume: bool) -> None:
    """Loads the checkpoint of the run into a model that is thrown away."""
    path = Checkpointer(None, cfg.OUTPUT_DIR).get_checkpoint_file() if resume else ""
    path = path or cfg.MODEL.WEIGHTS
    if not path:
        return
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.DEVICE = False, "cpu"
    cfg.MODEL.HEADS.NUM_CLASSES = cfg.MODEL.HEADS.NUM_CLASSES or 1
    Checkpointer(build_model(cfg)).load(path, checkpointables=[])
