import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import hashlib
import socket
import sys
import threading
from pathlib import Path

import gdown
import pytest
import torch
from fastreid.config import get_cfg
from fastreid.modeling.backbones import build_backbone, build_vit_backbone, mobilenetv3, resnest, resnet
from fastreid.modeling.meta_arch import build_model

from igoas_plugin.checkpoint import imagenet
from igoas_plugin.core.errors import InputError


def backbone(name: str = "osnet", depth: str = "x0_25", **options) -> torch.nn.Module:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH = f"build_{name}_backbone", depth
    for key, value in options.items():
        cfg.MODEL.BACKBONE[key] = value
    return build_backbone(cfg)


def refusal(*args, **options) -> str:
    """Returns the one line that a user reads instead of a traceback."""
    with pytest.raises(InputError) as error:
        backbone(*args, PRETRAIN=True, **options)
    line = str(error.value)
    assert "\n" not in line
    assert "MODEL.BACKBONE.PRETRAIN_PATH" in line and "MODEL.BACKBONE.PRETRAIN False" in line
    return line


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    """Empty cache for downloads, without a network: a download fails unless the test provides one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    download_by(monkeypatch, unreachable)
    return tmp_path / "cache"


def download_by(monkeypatch, download) -> None:
    """Calls download(url, path) in place of gdown and torch.hub."""
    monkeypatch.setattr(gdown, "download", lambda url, path, **_: download(url, path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, path, **_: download(url, path))


def unreachable(url, path):
    raise ConnectionError(f"cannot reach {url},\nnot even on a second line")


def serve(monkeypatch, content) -> list[str]:
    """Lets every download succeed with this content (bytes, or what torch.save takes); returns the links asked for."""
    asked = []

    def download(url, path):
        asked.append(url)
        if isinstance(content, bytes):
            Path(path).write_bytes(content)
        else:
            torch.save(content, path)

    download_by(monkeypatch, download)
    return asked


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_without_the_plugin_missing_weights_end_in_other_errors_or_in_none(raw_host):
    seen = {kind: each["error"] for kind, each in raw_host["pretrained_weights"].items()}
    assert seen == {
        "dead link": "FileNotFoundError",
        "cut off": "ConnectionError",
        "no link": "KeyError",
        "no file": "FileNotFoundError",
        "builder without links": "FileNotFoundError",
        "no gdown": "ModuleNotFoundError",
        "nothing fits": None,
    }
    assert raw_host["pretrained_weights"]["cut off"]["left"] == ["resnet18-5c106cde.pth"]


@pytest.mark.parametrize(
    "name, depth, options, wanted",
    [
        ("resnet", "18x", {}, "resnet18-5c106cde.pth"),
        ("resnet", "18x", {"WITH_IBN": True}, "resnet18_ibn_a-2f571257.pth"),
        ("resnext", "101x", {"WITH_IBN": True}, "resnext101_ibn_a-6ace051d.pth"),
        ("resnest", "50x", {}, "resnest50-528c19ca.pth"),
        ("osnet", "x0_25", {}, "osnet_x0_25"),
        ("regnet", "800y", {}, "RegNetY-800MF_dds_8gpu.pyth"),
        ("effnet", "b0", {}, "EN-B0_dds_8gpu.pyth"),
        ("mobilenetv3", "Small", {}, "mobilenet_v3_small-047dcff4.pth"),
    ],
)
def test_a_link_that_cannot_be_reached_is_one_line_that_names_it(cache, name, depth, options, wanted):
    line = refusal(name, depth, **options)
    assert wanted in line
    assert "ConnectionError: cannot reach http" in line
    assert files_in(cache) == []


def test_a_real_connection_that_is_refused_is_one_line(cache, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(cache))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setitem(resnet.model_urls, "18x", "https://127.0.0.1:9/resnet18.pth")
    assert "https://127.0.0.1:9/resnet18.pth" in refusal("resnet", "18x")
    assert files_in(cache) == []


def test_a_server_that_sends_nothing_does_not_hold_the_run(cache, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(cache))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(imagenet, "SILENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/resnet18.pth"
        monkeypatch.setitem(resnet.model_urls, "18x", url)
        lines = []
        thread = threading.Thread(target=lambda: lines.append(refusal("resnet", "18x")), daemon=True)
        thread.start()
        thread.join(timeout=30)
    assert lines and "time" in lines[0].rpartition("resnet18.pth (")[2].lower()
    assert files_in(cache) == []


def half_a_file(url, path):
    Path(path).write_bytes(b"half")
    raise ConnectionError("lost")


def nothing(url, path):
    """Does nothing, as older versions of gdown if a link is dead."""


@pytest.mark.parametrize("download", [half_a_file, nothing])
def test_a_download_that_fails_leaves_no_file(cache, monkeypatch, download):
    download_by(monkeypatch, download)
    assert "osnet_x0_25" in refusal()
    assert files_in(cache) == []


@pytest.mark.parametrize("content", [b"", b"<html>quota exceeded</html>", b"PK\x03\x04 the rest is missing"])
def test_a_download_that_is_no_checkpoint_leaves_no_file(cache, monkeypatch, content):
    serve(monkeypatch, content)
    assert "cannot download pretrained weights 'osnet_x0_25'" in refusal()
    assert files_in(cache) == []


def test_a_download_with_another_checksum_leaves_no_file(cache, monkeypatch):
    serve(monkeypatch, {"conv1.weight": torch.zeros(64, 3, 7, 7)})
    assert "SHA-256" in refusal("resnet", "18x")
    assert files_in(cache) == []


def test_weights_with_the_right_checksum_are_loaded(tmp_path, monkeypatch):
    weights = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.full((64, 3, 7, 7), 0.5)}, weights)
    name = f"resnet18-{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}.pth"
    monkeypatch.setitem(resnet.model_urls, "18x", f"https://download.pytorch.org/models/{name}")
    serve(monkeypatch, weights.read_bytes())
    assert (backbone("resnet", "18x", PRETRAIN=True).conv1.weight == 0.5).all()


def test_downloaded_weights_are_loaded_and_kept_where_the_host_keeps_them(cache, monkeypatch):
    serve(monkeypatch, {"module.conv1.conv.weight": torch.full((16, 3, 7, 7), 0.5)})
    assert (backbone(PRETRAIN=True).conv1.conv.weight == 0.5).all()
    assert (cache / "checkpoints" / "osnet_x0_25_imagenet.pth").is_file()
    download_by(monkeypatch, unreachable)
    assert (backbone(PRETRAIN=True).conv1.conv.weight == 0.5).all()


@pytest.mark.parametrize("name, depth, kernel", [("effnet", "b0", (32, 3, 3, 3)), ("regnet", "800y", (32, 3, 3, 3))])
def test_weights_of_pycls_are_taken_out_of_their_checkpoint(monkeypatch, name, depth, kernel):
    serve(monkeypatch, {"epoch": 99, "model_state": {"stem.conv.weight": torch.full(kernel, 0.5)}})
    assert (backbone(name, depth, PRETRAIN=True).stem.conv.weight == 0.5).all()


@pytest.mark.parametrize(
    "module, name, depth, variant, key, shape",
    [
        (resnest, "resnest", "50x", "resnest50", "conv1.0.weight", (32, 3, 3, 3)),
        (mobilenetv3, "mobilenetv3", "Small", "Small", "features.0.0.weight", (16, 3, 3, 3)),
    ],
)
def test_builders_that_load_by_torch_hub_keep_the_download_there(
    cache, monkeypatch, module, name, depth, variant, key, shape
):
    monkeypatch.setitem(module.model_urls, variant, "https://example.org/weights.pth")
    asked = serve(monkeypatch, {key: torch.full(shape, 0.5)})
    assert (backbone(name, depth, PRETRAIN=True).state_dict()[key] == 0.5).all()
    assert asked == ["https://example.org/weights.pth"]
    assert (cache / "hub" / "checkpoints" / "weights.pth").is_file()


def test_an_unreadable_file_in_the_cache_is_named(cache):
    (cache / "checkpoints").mkdir(parents=True)
    file = cache / "checkpoints" / "osnet_x0_25_imagenet.pth"
    file.write_bytes(b"half")
    line = refusal()
    assert str(file) in line and "delete it" in line


def test_a_missing_gdown_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    assert "gdown" in refusal()


@pytest.mark.parametrize(
    "name, depth, options, variant",
    [
        ("resnet", "50x", {"WITH_SE": True}, "'se_50x'"),
        ("resnext", "50x", {}, "'50x'"),
        ("osnet", "x0_25", {"WITH_IBN": True}, "'osnet_ibn_x0_25'"),
        ("regnet", "200x", {}, "'200x'"),
        ("mobilenetv2", "0.1x", {}, "build_mobilenetv2_backbone"),
        ("shufflenetv2", "0.5x", {}, "build_shufflenetv2_backbone"),
        ("repvgg", "A0", {}, "build_repvgg_backbone"),
        ("vit", "small", {}, "build_vit_backbone"),
    ],
)
def test_a_variant_without_a_link_is_named(name, depth, options, variant):
    line = refusal(name, depth, **options)
    assert variant in line and "no link" in line


@pytest.mark.parametrize("name", [each.split("_")[1] for each in imagenet.DEPTHS])
def test_a_pretrain_path_that_does_not_exist_is_named_for_every_builder(name):
    depth = imagenet.DEPTHS[f"build_{name}_backbone"].split()[0]
    assert "no/such/file.pth" in refusal(name, depth, PRETRAIN_PATH="no/such/file.pth")


@pytest.mark.parametrize(
    "content, said",
    [
        (b"half", "cannot be read"),
        ({"model": {"backbone.conv1.weight": torch.ones(64, 3, 7, 7)}}, "has none of the names of the model"),
        ({"conv1.weight": torch.ones(1, 3, 7, 7)}, "cannot take these weights"),
        ([1, 2, 3], "holds no weights by name"),
    ],
)
def test_a_local_file_that_does_not_serve_is_named(tmp_path, content, said):
    path = tmp_path / "weights.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    line = refusal("resnet", "18x", PRETRAIN_PATH=str(path))
    assert str(path) in line and said in line


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_local_file_that_fits_is_loaded(tmp_path, dtype):
    torch.save({"conv1.weight": torch.full((64, 3, 7, 7), 0.5, dtype=dtype)}, tmp_path / "weights.pth")
    model = backbone("resnet", "18x", PRETRAIN=True, PRETRAIN_PATH=str(tmp_path / "weights.pth"))
    assert (model.conv1.weight == 0.5).all()


@pytest.mark.parametrize("prefix", ["", "module.", "module.encoder.", "module.encoder_q."])
def test_a_local_file_may_have_the_prefixes_of_other_programs(tmp_path, prefix):
    torch.save({"model": {f"{prefix}conv1.weight": torch.full((64, 3, 7, 7), 0.5)}}, tmp_path / "weights.pth")
    model = backbone("resnet", "18x", PRETRAIN=True, PRETRAIN_PATH=str(tmp_path / "weights.pth"))
    assert (model.conv1.weight == 0.5).all()


@pytest.mark.parametrize("distilled", [False, True])
def test_a_vision_transformer_takes_weights_for_square_images_as_fast_reid_does(tmp_path, distilled):
    path = tmp_path / ("distilled.pth" if distilled else "weights.pth")
    torch.manual_seed(0)
    positions = torch.randn(1, 1 + distilled + 14 * 14, 768)
    torch.save({"model": {"pos_embed": positions, "cls_token": torch.full((1, 1, 768), 0.5)}}, path)
    ours = backbone("vit", "small", PRETRAIN=True, PRETRAIN_PATH=str(path))
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.PRETRAIN, cfg.MODEL.BACKBONE.PRETRAIN_PATH = "small", True, str(path)
    theirs = build_vit_backbone(cfg)
    assert torch.equal(ours.pos_embed, theirs.pos_embed) and (ours.cls_token == 0.5).all()


def test_without_pretraining_no_file_is_looked_for():
    assert backbone(PRETRAIN=False, PRETRAIN_PATH="no/such/file.pth") is not None


def test_the_hosts_models_get_their_backbone_this_way():
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.MODEL.BACKBONE.DEPTH = "cpu", "19x"
    with pytest.raises(InputError, match="19x"):
        build_model(cfg)


def test_without_the_plugin_an_unknown_depth_is_a_key_error(raw_host):
    assert raw_host["depth_without_network"] == "KeyError: '152x'"


@pytest.mark.parametrize("name", [each.split("_")[1] for each in imagenet.DEPTHS])
def test_an_unknown_depth_is_one_line_with_the_depths_that_there_are(name):
    with pytest.raises(InputError) as error:
        backbone(name, "152x")
    for depth in imagenet.DEPTHS[f"build_{name}_backbone"].split():
        assert depth in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [each.split("_")[1] for each in imagenet.DEPTHS if "vit" not in each])
def test_every_depth_that_is_listed_can_be_built(name):
    for depth in imagenet.DEPTHS[f"build_{name}_backbone"].split():
        with torch.device("meta"):
            assert next(backbone(name, depth).parameters()).is_meta


def test_without_the_plugin_resnet18_ignores_non_local_blocks_in_silence(raw_host):
    assert raw_host["non_local_blocks_of_resnet18"] == {"blocks": 0, "warnings": 0}


@pytest.mark.parametrize("depth, warned", [("18x", 1), ("34x", 1), ("50x", 0)])
def test_non_local_blocks_that_do_not_exist_are_warned_about_once(host_log, depth, warned):
    with torch.device("meta"):
        backbone("resnet", depth, WITH_NL=True)
    assert sum("WITH_NL" in record.getMessage() for record in host_log.records) == warned
