"""ImageNet weights of the backbones of fast-reid and of timm: downloaded or local, checked, and loaded."""

import hashlib
import logging
import re
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from fastreid.modeling.backbones import build, mobilenetv3, osnet, resnest, resnet, resnext
from fastreid.modeling.backbones.regnet import effnet, regnet
from fastreid.modeling.backbones.vision_transformer import resize_pos_embed
from fastreid.utils import comm
from fastreid.utils.checkpoint import get_missing_parameters_message, get_unexpected_parameters_message
from torch import Tensor, nn
from yacs.config import CfgNode

from igoas_plugin.core.errors import InputError, one_line
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

from .checkpoint_file import read_file, weights_in

logger = logging.getLogger(f"fastreid.{__name__}")

build_of_fastreid = build.build_backbone

DEPTHS = {  # fast-reid has them as keys of dicts inside its functions
    "build_resnet_backbone": "18x 34x 50x 101x",
    "build_resnext_backbone": "50x 101x",
    "build_resnest_backbone": "50x 101x 200x 269x",
    "build_osnet_backbone": "x1_0 x0_75 x0_5 x0_25",
    "build_regnet_backbone": "200x 200y 400x 400y 800x 800y 1600x 1600y 3200x 3200y 4000x 4000y 6400x 6400y",
    "build_effnet_backbone": "b0 b1 b2 b3 b4 b5",
    "build_mobilenetv2_backbone": "1.0x 0.75x 0.5x 0.35x 0.25x 0.1x",
    "build_mobilenetv3_backbone": "Large Small",
    "build_shufflenetv2_backbone": "0.5x 1.0x 1.5x 2.0x",
    "build_repvgg_backbone": "A0 A1 A2 B0 B1 B1g2 B1g4 B2 B2g2 B2g4 B3 B3g2 B3g4",
    "build_vit_backbone": "small base",
}
TIMM = "build_timm_backbone"  # of this plugin; timm knows the names of its models
LINKS = {
    "build_resnet_backbone": resnet.model_urls,
    "build_resnext_backbone": resnext.model_urls,
    "build_resnest_backbone": resnest.model_urls,
    "build_osnet_backbone": osnet.model_urls,
    "build_regnet_backbone": regnet.model_urls,
    "build_effnet_backbone": effnet.model_urls,
    "build_mobilenetv3_backbone": mobilenetv3.model_urls,
}
IN_HUB = ("build_resnest_backbone", "build_mobilenetv3_backbone")  # fast-reid stores these files where torch.hub does
DRIVE = "https://drive.google.com/"
WITH_DIGEST = ("https://download.pytorch.org/", "https://github.com/zhanghang1989/ResNeSt/")  # in the file name
PREFIX = r"^(module\.)?(encoder(_q)?\.)?"  # of DataParallel and MoCo
DROPS_OTHER_SHAPES = ("build_resnext_backbone", "build_osnet_backbone")  # as fast-reid does
SILENCE = 60  # seconds without a byte until a download fails
WAY_OUT = (
    "give a local file as MODEL.BACKBONE.PRETRAIN_PATH, or train from scratch by MODEL.BACKBONE.PRETRAIN False "
    "(IGOAS also by MODEL.IGOAS.FREEZE_EPOCHS 0)"
)


def build_backbone(cfg: CfgNode) -> nn.Module:
    """Builds a backbone, as fast-reid's function of this name, and loads its ImageNet weights.

    Raises:
        InputError: MODEL.BACKBONE.DEPTH is unknown, or the weights are missing, unreadable, or do not fit.
    """
    options = cfg.MODEL.BACKBONE
    if options.NAME in DEPTHS:
        check_depth(options)
    if not options.PRETRAIN or options.NAME not in (*DEPTHS, TIMM):
        return build_of_fastreid(cfg)
    weights = find_weights(options)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = False
    model = build_of_fastreid(cfg)
    source = f"{options.PRETRAIN_PATH or 'the downloaded weights'}: {options.NAME} {options.DEPTH}"
    try:
        load_weights(model, weights, options)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise InputError(f"{source} cannot take these weights ({reason_of(error)}); {WAY_OUT}") from error
    return model


@fix
def load_imagenet_weights_safely() -> None:
    """Missing ImageNet weights end in a traceback, a file that does not fit is ignored, and one that runs code is run.

    fast-reid reads the files by torch.load() with its default, which before torch 2.6 executes what a pickle says. A
    dead link, a missing gdown, a variant without a link, an unknown MODEL.BACKBONE.DEPTH ('152x' of ResNeXt) and a
    wrong PRETRAIN_PATH are now one line each. Upstream: fast-reid #435, #577.
    """
    replace_everywhere(build_of_fastreid, build_backbone)


def check_depth(options: CfgNode) -> None:
    """Raises InputError if the backbone has no such depth, and warns of non-local blocks that it does not have."""
    depths = DEPTHS[options.NAME].split()
    if options.DEPTH not in depths:
        raise InputError(f"MODEL.BACKBONE.DEPTH {options.DEPTH!r}: {options.NAME} knows {', '.join(depths)}")
    if options.NAME == "build_resnet_backbone" and options.WITH_NL and options.DEPTH in ("18x", "34x"):
        logger.warning(
            f"MODEL.BACKBONE.WITH_NL has no effect: a ResNet {options.DEPTH} of fast-reid has no non-local blocks"
        )


def reason_of(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {one_line(error)[:200]}"


# Finding the file


def find_weights(options: CfgNode) -> dict[str, Tensor]:
    """Reads the file of MODEL.BACKBONE.PRETRAIN_PATH, or the file of fast-reid's link, downloaded if it is not there.

    Raises:
        InputError: there is no file, no link, or no download; or the file cannot be read or has another SHA-256.
    """
    pinned = options.get("PRETRAIN_SHA256", "").lower()  # a config of fast-reid alone has no such key
    if pinned and not re.fullmatch("[0-9a-f]{64}", pinned):
        raise InputError(f"MODEL.BACKBONE.PRETRAIN_SHA256 must be 64 hexadecimal digits, got {pinned!r}")
    if not options.PRETRAIN_PATH:
        return fetch(options, pinned)
    path = Path(options.PRETRAIN_PATH)
    if not path.is_file():
        raise InputError(f"MODEL.BACKBONE.PRETRAIN_PATH: there is no file {path}; {WAY_OUT}")
    return read_weights(path, pinned, WAY_OUT)


def fetch(options: CfgNode, pinned: str) -> dict[str, Tensor]:
    """Returns the published weights of a backbone; the first process of a machine downloads them if they are missing.

    Without `pinned`, only the first digits of the SHA-256 that some links carry are compared.
    """
    variant = variant_of(options)
    url = LINKS.get(options.NAME, {}).get(variant)
    if url is None:
        raise InputError(f"fast-reid has no link to pretrained weights {variant!r} of {options.NAME}; {WAY_OUT}")
    if not url.startswith("https://"):
        raise InputError(f"the link to pretrained weights {variant!r} is not https: {url}; {WAY_OUT}")
    hub = Path(torch.hub.get_dir())
    folder = (hub if options.NAME in IN_HUB else hub.parent) / "checkpoints"
    file = folder / (f"{variant}_imagenet.pth" if url.startswith(DRIVE) else url.split("/")[-1])
    digits = re.search(r"-([0-9a-f]{8})\.pth$", url) if url.startswith(WITH_DIGEST) else None
    digest, problem = pinned or (digits[1] if digits else ""), "the first process of this machine could not download it"
    if comm.get_local_rank() == 0 and not file.exists():
        logger.info(f"Downloading pretrained weights from {url} to {file}")
        try:
            download(url, file, digest)
        except Exception as error:  # raised below, after the other processes have been let go
            problem = reason_of(error)
    comm.synchronize()
    if not file.exists():
        raise InputError(f"cannot download pretrained weights {variant!r} from {url} ({problem}); {WAY_OUT}")
    return read_weights(file, digest, f"delete it to have it downloaded again, or {WAY_OUT}")


def variant_of(options: CfgNode) -> str:
    """Returns the key of a backbone in fast-reid's table of links, such as "se_ibn_101x"."""
    ibn = "ibn_" if options.WITH_IBN else ""
    variants = {
        "build_resnet_backbone": f"{'se_' if options.WITH_SE else ''}{ibn}{options.DEPTH}",
        "build_resnext_backbone": f"{ibn}{options.DEPTH}",
        "build_osnet_backbone": f"osnet_{ibn}{options.DEPTH}",
        "build_resnest_backbone": f"resnest{options.DEPTH[:-1]}",
    }
    return variants.get(options.NAME, options.DEPTH)


def download(url: str, target: Path, digest: str) -> None:
    """Downloads a file of weights, checks it, and only then gives it its name. Raises whatever goes wrong."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
        part = Path(folder, target.name)
        if url.startswith(DRIVE):
            import gdown

            gdown.download(url, str(part), quiet=False, timeout=SILENCE)
        else:
            timeout = socket.getdefaulttimeout()
            socket.setdefaulttimeout(SILENCE)  # torch.hub sets no limit itself
            try:
                torch.hub.download_url_to_file(url, str(part), hash_prefix=digest or None)
            finally:
                socket.setdefaulttimeout(timeout)
        read_weights(part, digest, "the server may have sent a web page")
        part.replace(target)


def read_weights(path: Path, digest: str, advice: str) -> dict[str, Tensor]:
    """Reads tensors by name from a file whose SHA-256 begins with `digest`.

    Raises:
        InputError: the file cannot be read, has another SHA-256, or holds something else. The line ends with `advice`.
    """
    try:
        if digest and not (found := hashlib.sha256(path.read_bytes()).hexdigest()).startswith(digest):
            raise InputError(f"{path} has the SHA-256 {found}, expected {digest}")
        return weights_in(str(path), read_file(str(path)))
    except InputError as error:
        raise InputError(f"{error}; {advice}") from error


# Loading it


def load_weights(model: nn.Module, weights: dict[str, Tensor], options: CfgNode) -> None:
    """Loads weights into a backbone and logs what is missing or left over.

    Raises:
        ValueError: no name of the file occurs in the model.
        RuntimeError: a tensor has another shape.
    """
    own = model.state_dict()
    weights = {re.sub(PREFIX, "", name): value for name, value in weights.items()}
    if options.NAME in DROPS_OTHER_SHAPES:
        weights = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if options.NAME == "build_vit_backbone":
        weights = for_vit(model, weights, distilled="distilled" in options.PRETRAIN_PATH)
    if options.NAME == TIMM:
        weights = for_timm(own, weights)
    if not own.keys() & weights.keys():
        raise ValueError("the file has none of the names of the model")
    incompatible = model.load_state_dict(weights, strict=False)
    if options.NAME == TIMM:
        return log_misfits(options.PRETRAIN_PATH, incompatible.missing_keys, incompatible.unexpected_keys)
    if incompatible.missing_keys:
        logger.info(get_missing_parameters_message(incompatible.missing_keys))
    if incompatible.unexpected_keys:
        logger.info(get_unexpected_parameters_message(incompatible.unexpected_keys))


def for_vit(model: nn.Module, weights: dict[str, Tensor], distilled: bool) -> dict[str, Tensor]:
    """Returns the weights of a vision transformer for images of this model's size, as fast-reid adapts them.

    `distilled` is whether the position embedding begins with a class token and a distillation token.
    """
    positions = weights.get("pos_embed")
    if positions is not None and positions.shape != model.pos_embed.shape:
        if distilled:
            positions = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
        size = model.patch_embed.num_y, model.patch_embed.num_x
        weights["pos_embed"] = resize_pos_embed(positions, model.pos_embed.data, *size)
    return weights


def for_timm(own: Iterable[str], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a whole timm model under the names `own`, which write stages_0 for its stages.0."""
    names = {name.replace(".", "_"): name for name in own}
    return {names.get(name.replace(".", "_"), name): value for name, value in weights.items()}


def log_misfits(path: str, missing: list[str], left_over: list[str]) -> None:
    """Logs a warning of weights that stay random, and which weights of the file are not used: one line each."""
    if missing:
        logger.warning(f"{path} lacks {listed(missing)}, which stay random")
    if left_over:
        logger.info(f"Weights of {path} that the backbone does not have, such as a classifier: {listed(left_over)}")


def listed(names: list[str], shown: int = 4) -> str:
    """Returns the first names in a line, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
