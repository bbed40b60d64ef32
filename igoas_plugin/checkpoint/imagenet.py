import copy
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from fastreid.modeling.backbones import build, mobilenetv3, osnet, resnest, resnet, resnext
from fastreid.modeling.backbones.regnet import config as regnet_config
from fastreid.modeling.backbones.regnet import effnet, regnet
from fastreid.utils import comm
from yacs.config import CfgNode

from igoas_plugin.core.errors import InputError, OutputError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere

from .checkpoint_file import is_digest, is_safetensors, noted_digest, read_file, sha256_of, tensors_in

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
NESTED = {  # where a builder looks in the file that PRETRAIN_PATH names; a .safetensors has tensors alone
    "build_resnext_backbone": "model",
    "build_effnet_backbone": "model_state",
    "build_shufflenetv2_backbone": "state_dict",
}
PINNED: ContextVar[str] = ContextVar("PINNED", default="")  # PRETRAIN_SHA256 of the backbone that is being built
SILENCE = 60  # seconds without a byte until a download counts as failed
WAY_OUT = (
    "give a local file as MODEL.BACKBONE.PRETRAIN_PATH, or train from scratch by MODEL.BACKBONE.PRETRAIN False "
    "(IGOAS also by MODEL.IGOAS.FREEZE_EPOCHS 0)"
)


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def read(path: Path, advice: str) -> dict:
    """Weights from a file, tensors and plain containers only, with the SHA-256 that is pinned for it.

    Raises:
        InputError: it cannot be read that way, or has another SHA-256; the line ends with the advice.
    """
    try:
        require_digest(path, PINNED.get(), "MODEL.BACKBONE.PRETRAIN_SHA256")
        return read_file(str(path))
    except InputError as error:
        raise InputError(f"{error}; {advice}") from error


def require_digest(path: Path, digest: str, source: str) -> None:
    """Raises InputError where the SHA-256 of a file does not begin with the digits that a source tells; "": none."""
    try:
        found = sha256_of(path) if digest else ""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not found.startswith(digest):
        raise InputError(f"{path} has the SHA-256 {found}, not {digest} as in {source}")


def download(url: str, target: Path) -> None:
    """Fetches weights to `target`, where nothing appears unless they are whole; any failure is an exception."""
    import gdown

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
        part = Path(folder, target.name)
        gdown.download(url, str(part), quiet=False, timeout=SILENCE)
        if not sha256_of(part).startswith(PINNED.get() or digits_in(url)):
            where = "MODEL.BACKBONE.PRETRAIN_SHA256" if PINNED.get() else "the link"
            raise ValueError(f"what came has the SHA-256 {sha256_of(part)}, and {where} says another")
        read_file(str(part))  # a page that says "quota exceeded" ends here
        part.replace(target)


def digits_in(url: str) -> str:
    """The first 8 digits of the SHA-256 that a link tells; "" where it tells none."""
    match = re.search(r"-([0-9a-f]{8})\.pth$", url) if url.startswith(CHECKED) else None
    return match[1] if match else ""


def trust_first(url: str, file: Path) -> None:
    """Notes the SHA-256 of a download in a file beside it, and logs it, unless there is a note or it is wrong."""
    note = file.with_name(f"{file.name}.sha256")
    if note.exists():
        return
    digest = sha256_of(file)
    if not digest.startswith(PINNED.get() or digits_in(url)):
        return  # it was there, and is refused
    if PINNED.get():
        logger.info(f"{file} has the SHA-256 of MODEL.BACKBONE.PRETRAIN_SHA256, {digest}")
    else:
        known = (
            f"only its first {len(digits_in(url))} digits are known from" if digits_in(url) else "nothing is known from"
        )
        logger.warning(
            f"{file} has the SHA-256 {digest}: {known} {url}, so what came is trusted from now on; compare it with a "
            "copy that you trust, and pin it by MODEL.BACKBONE.PRETRAIN_SHA256"
        )
    try:
        write_atomically(str(note), lambda opened: opened.write(f"{digest}  {file.name}\n".encode()))
    except OutputError as error:  # a cache that others fill
        logger.warning(f"The SHA-256 of {file} cannot be noted beside it: {error}")


def fetch(urls: dict[str, str], variant: str, folder: Path, name: str | None = None) -> dict:
    """The host's pretrained weights of one variant, downloaded unless they are there.

    A link that tells no SHA-256 is trusted the first time: the digest of what came is noted beside the file, in the
    format of sha256sum, and logged; the file is held to it from then on.

    Args:
        urls: the host's links, by variant.
        variant: e.g. "50x" or "se_ibn_101x".
        folder: where the host keeps what it has downloaded.
        name: of the file there; the last part of the link where not given.

    Raises:
        InputError: no link, one without encryption, no download, an unreadable file, or one with another SHA-256 than
            is pinned or noted.
    """
    if variant not in urls:
        raise InputError(
            f"fast-reid has no link to pretrained weights {variant!r} (only to {', '.join(urls)}); {WAY_OUT}"
        )
    url, problem = urls[variant], "the first process of this machine could not fetch it"
    if not url.startswith("https://"):
        raise InputError(f"the link to pretrained weights {variant!r} is not https: {url}; {WAY_OUT}")
    file = folder / (name or url.split("/")[-1])
    if comm.get_local_rank() == 0:
        try:
            if not file.exists():
                logger.info(f"Downloading pretrained weights from {url} to {file}")
                file.with_name(f"{file.name}.sha256").unlink(missing_ok=True)  # of a file that was deleted
                download(url, file)
            trust_first(url, file)
        except Exception as error:  # raised below, after the other processes have been let go
            problem = one_line(error)
    comm.synchronize()
    if not file.exists():
        raise InputError(f"cannot download pretrained weights {variant!r} from {url} ({problem}); {WAY_OUT}")
    logger.info(f"Loading pretrained weights from {file}")
    advice = f"delete it to have it downloaded again, or {WAY_OUT}"
    note = file.with_name(f"{file.name}.sha256")
    try:
        require_digest(file, digits_in(url), url)
        require_digest(file, noted_digest(note), str(note))
    except InputError as error:
        raise InputError(f"{error}; {advice}") from None
    return read(file, advice)


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
    one line that says what was wanted and which key takes a local file; no half-written file stays behind. What comes
    is held to the SHA-256 that is pinned, told by the link, or noted when it came first.
    Upstream: fast-reid #435, #577.
    """
    resnet.init_pretrained_weights = resnet_weights
    resnext.init_pretrained_weights = resnext_weights
    regnet.init_pretrained_weights = regnet_weights
    effnet.init_pretrained_weights = effnet_weights
    osnet.init_pretrained_weights = osnet_weights


def pinned_digest(options: CfgNode) -> str:
    """MODEL.BACKBONE.PRETRAIN_SHA256 in lower case, "" where it is not set; raises InputError where it is no digest."""
    digest = options.get("PRETRAIN_SHA256", "").lower()  # a config of the host alone has no such key
    if digest and not is_digest(digest):
        raise InputError(f"MODEL.BACKBONE.PRETRAIN_SHA256 must be 64 hexadecimal digits, got {digest!r}")
    return digest


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
        What the builder will load by torch.load(); None where it asks this module.

    Raises:
        InputError: they are not there or cannot be read.
    """
    if options.PRETRAIN_PATH:
        path = Path(options.PRETRAIN_PATH)
        if not path.is_file():
            raise InputError(f"MODEL.BACKBONE.PRETRAIN_PATH: there is no file {path}; {WAY_OUT}")
        weights = read(path, WAY_OUT)
        return {NESTED[options.NAME]: weights} if is_safetensors(path.name) and options.NAME in NESTED else weights
    if options.NAME in WITHOUT_LINKS:
        raise InputError(f"fast-reid has no links to pretrained weights for {options.NAME}; {WAY_OUT}")
    hub = Path(torch.hub.get_dir(), "checkpoints")  # these two builders load by torch.hub, which then finds the file
    if options.NAME == "build_resnest_backbone":
        return fetch(resnest.model_urls, "resnest" + options.DEPTH[:-1], hub)
    if options.NAME == "build_mobilenetv3_backbone":
        return fetch(mobilenetv3.model_urls, options.DEPTH, hub)
    return None


def has_any_of(model: torch.nn.Module, weights: dict) -> bool:
    """Whether at least one matrix or kernel of the file has arrived in the model."""
    own = {}
    for value in model.state_dict().values():
        own.setdefault(value.shape, []).append(value)
    matrices = (value for _, value in tensors_in(weights) if value.dim() > 1)
    return any(torch.equal(value.to(mine), mine) for value in matrices for mine in own.get(value.shape, ()))


@contextmanager
def handed_over(weights: dict | None) -> Iterator[None]:
    """A context in which torch.load() gives these weights, whatever it is asked for; None: it loads as ever.

    The host's builders read the file of PRETRAIN_PATH themselves, by torch.load() with its default, which before torch
    2.6 executes what a pickle says, and they know no .safetensors.
    """
    load = torch.load
    if weights is not None:
        torch.load = lambda *_, **__: copy.copy(weights)  # a builder may take something out of it
    try:
        yield
    finally:
        torch.load = load


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
    wanted = f"{options.PRETRAIN_PATH or 'the downloaded weights'}: {options.NAME} {options.DEPTH}"
    pinned = PINNED.set(pinned_digest(options))
    try:
        weights = find_weights(options)
        with handed_over(weights):
            model = build_on_host(cfg)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{wanted} cannot take these weights ({one_line(error)}); {WAY_OUT}") from error
    finally:
        PINNED.reset(pinned)
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
