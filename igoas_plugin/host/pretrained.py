import hashlib
import inspect
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from fastreid.modeling.backbones import build, mobilenetv3, osnet, resnest, resnet, resnext
from fastreid.modeling.backbones.regnet import config as regnet_config
from fastreid.modeling.backbones.regnet import effnet, regnet
from fastreid.utils import comm
from yacs.config import CfgNode

from igoas_plugin.errors import InputError

from .fix import fix, replace_everywhere

logger = logging.getLogger(f"fastreid.{__name__}")

build_on_host = build.build_backbone

DEPTHS = {  # the host has them as keys of dicts inside its functions
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
WITHOUT_LINKS = tuple(f"build_{name}_backbone" for name in ("mobilenetv2", "shufflenetv2", "repvgg", "vit"))
CHECKED = ("https://download.pytorch.org/", "https://github.com/zhanghang1989/ResNeSt/")  # sha256 in the file name
SILENCE = 60  # seconds without a byte until a download counts as failed
WAY_OUT = (
    "give a local file as MODEL.BACKBONE.PRETRAIN_PATH, or train from scratch by MODEL.BACKBONE.PRETRAIN False "
    "(IGOAS also by MODEL.IGOAS.FREEZE_EPOCHS 0)"
)


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def read(path: Path, advice: str) -> dict:
    """Weights from a file, tensors and plain containers only.

    Raises:
        InputError: it cannot be read that way; the line ends with the advice.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch meets in a file that is no checkpoint
        raise InputError(f"{path} holds no weights that torch can read ({one_line(error)}); {advice}") from error


def download(url: str, target: Path) -> None:
    """Fetches weights to `target`, where nothing appears unless they are whole; any failure is an exception."""
    import gdown

    options = {"timeout": SILENCE} if "timeout" in inspect.signature(gdown.download).parameters else {}
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
        part = Path(folder, target.name)
        gdown.download(url, str(part), quiet=False, **options)
        expected = re.search(r"-([0-9a-f]{8})\.pth$", url) if url.startswith(CHECKED) else None
        if expected and not hashlib.sha256(part.read_bytes()).hexdigest().startswith(expected[1]):
            raise ValueError("what came has another SHA-256 than the link says")
        torch.load(part, map_location="cpu", weights_only=True)  # a page that says "quota exceeded" ends here
        part.replace(target)


def fetch(urls: dict[str, str], variant: str, folder: Path, name: str | None = None) -> dict:
    """The host's pretrained weights of one variant, downloaded unless they are there.

    Args:
        urls: the host's links, by variant.
        variant: e.g. "50x" or "se_ibn_101x".
        folder: where the host keeps what it has downloaded.
        name: of the file there; the last part of the link where not given.

    Raises:
        InputError: no link, no download, or an unreadable file.
    """
    if variant not in urls:
        raise InputError(
            f"fast-reid has no link to pretrained weights {variant!r} (only to {', '.join(urls)}); {WAY_OUT}"
        )
    url, problem = urls[variant], "the first process of this machine could not fetch it"
    file = folder / (name or url.split("/")[-1])
    if not file.exists() and comm.get_local_rank() == 0:
        logger.info(f"Downloading pretrained weights from {url} to {file}")
        try:
            download(url, file)
        except Exception as error:  # raised below, after the other processes have been let go
            problem = one_line(error)
    comm.synchronize()
    if not file.exists():
        raise InputError(f"cannot download pretrained weights {variant!r} from {url} ({problem}); {WAY_OUT}")
    logger.info(f"Loading pretrained weights from {file}")
    return read(file, f"delete it to have it downloaded again, or {WAY_OUT}")


def host_cache() -> Path:
    cache = os.getenv("TORCH_HOME", os.path.join(os.getenv("XDG_CACHE_HOME", "~/.cache"), "torch"))
    return Path(cache).expanduser() / "checkpoints"


def resnet_weights(key):
    return fetch(resnet.model_urls, key, host_cache())


def resnext_weights(key):
    return fetch(resnext.model_urls, key, host_cache())


def regnet_weights(key):
    return fetch(regnet.model_urls, key, host_cache())["model_state"]


def effnet_weights(key):
    return fetch(effnet.model_urls, key, host_cache())["model_state"]


def osnet_weights(model, key=""):
    weights = fetch(osnet.model_urls, key, host_cache(), f"{key}_imagenet.pth")
    weights = {name.removeprefix("module."): value for name, value in weights.items()}
    own = model.state_dict()
    return {**own, **{name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}}


@fix
def tell_which_weights_are_missing() -> None:
    """Pretrained weights that cannot be fetched end in a traceback (KeyError, FileNotFoundError, ModuleNotFoundError).

    Links are dead or unreachable, gdown is missing or waits for ever, or there is no link for the variant. Each is now
    one line that says what was wanted and which key takes a local file; no half-written file stays behind.
    Upstream: fast-reid #435, #577.
    """
    resnet.init_pretrained_weights = resnet_weights
    resnext.init_pretrained_weights = resnext_weights
    regnet.init_pretrained_weights = regnet_weights
    effnet.init_pretrained_weights = effnet_weights
    osnet.init_pretrained_weights = osnet_weights


def check_depth(options: CfgNode) -> None:
    depths = DEPTHS[options.NAME].split()
    if options.DEPTH not in depths:
        raise InputError(f"MODEL.BACKBONE.DEPTH {options.DEPTH!r}: {options.NAME} knows {', '.join(depths)}")
    if options.NAME == "build_resnet_backbone" and options.WITH_NL and options.DEPTH in ("18x", "34x"):
        logger.warning(
            f"MODEL.BACKBONE.WITH_NL has no effect: a ResNet {options.DEPTH} of fast-reid has no non-local blocks"
        )


def find_weights(options: CfgNode) -> dict | None:
    """Looks at the pretrained weights before the host does.

    Returns:
        What PRETRAIN_PATH holds; None where the host's own links serve.

    Raises:
        InputError: they are not there or cannot be read.
    """
    if options.PRETRAIN_PATH:
        path = Path(options.PRETRAIN_PATH)
        if not path.is_file():
            raise InputError(f"MODEL.BACKBONE.PRETRAIN_PATH: there is no file {path}; {WAY_OUT}")
        return read(path, WAY_OUT)
    if options.NAME in WITHOUT_LINKS:
        raise InputError(f"fast-reid has no links to pretrained weights for {options.NAME}; {WAY_OUT}")
    hub = Path(torch.hub.get_dir(), "checkpoints")  # these two builders load by torch.hub, which then finds the file
    if options.NAME == "build_resnest_backbone":
        fetch(resnest.model_urls, "resnest" + options.DEPTH[:-1], hub)
    if options.NAME == "build_mobilenetv3_backbone":
        fetch(mobilenetv3.model_urls, options.DEPTH, hub)
    return None


def tensors_in(node) -> Iterator[torch.Tensor]:
    if isinstance(node, torch.Tensor):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from tensors_in(value)


def has_any_of(model: torch.nn.Module, weights: dict) -> bool:
    """Whether at least one matrix or kernel of the file has arrived in the model."""
    own = {}
    for value in model.state_dict().values():
        own.setdefault(value.shape, []).append(value)
    matrices = (value for value in tensors_in(weights) if value.dim() > 1)
    return any(torch.equal(value.to(mine), mine) for value in matrices for mine in own.get(value.shape, ()))


def build_backbone(cfg):
    """The host's function of this name; what the config asks for in vain is told in one line.

    Raises:
        InputError: unknown MODEL.BACKBONE.DEPTH, or pretrained weights that are missing, unreadable or do not fit.
    """
    options = cfg.MODEL.BACKBONE
    if options.NAME not in DEPTHS:
        return build_on_host(cfg)
    check_depth(options)
    if not options.PRETRAIN:
        return build_on_host(cfg)
    weights = find_weights(options)
    wanted = f"{options.PRETRAIN_PATH or 'the downloaded weights'}: {options.NAME} {options.DEPTH}"
    try:
        model = build_on_host(cfg)
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{wanted} cannot take these weights ({one_line(error)}); {WAY_OUT}") from error
    if weights is not None and not has_any_of(model, weights):
        raise InputError(f"{wanted} takes nothing from this file, names or shapes differ; {WAY_OUT}")
    return model


@fix
def check_backbone_before_it_is_built() -> None:
    """KeyError for an unknown MODEL.BACKBONE.DEPTH ('152x' of ResNeXt), a traceback for a wrong PRETRAIN_PATH.

    Weights of which nothing fits were dropped without an error (strict=False). WITH_NL with a ResNet of 18 or 34
    layers, which have no non-local blocks, was silently ignored: there is a warning now.
    """
    replace_everywhere(build_on_host, build_backbone)


regnet_defaults = regnet_config.cfg.clone()


def merge_regnet_file(cfg_filename: str) -> None:
    """Merges one of the host's files into the defaults of RegNet and EfficientNet, from any working directory."""
    installed = Path(build.__file__).parents[3] / cfg_filename  # beside the package fastreid
    regnet_config.cfg.merge_from_other_cfg(regnet_defaults)
    CfgNode.merge_from_file(regnet_config.cfg, str(installed if installed.is_file() else cfg_filename))


@fix
def find_regnet_files_in_the_package() -> None:
    """FileNotFoundError: RegNet and EfficientNet are built only where the working directory holds the host's sources.

    The host names their YAML files by a path that starts at its repository. Besides, one object holds the settings of
    all of them: RegNetY left squeeze-and-excitation on for every RegNetX built after it in the same process.
    """
    vars(regnet_config.cfg)["merge_from_file"] = merge_regnet_file  # setattr would make a key of it
