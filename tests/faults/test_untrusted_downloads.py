"""Downloads of pretrained weights: only on request, only by https, and compared with a SHA-256."""

import functools
import hashlib
import http.server
import os
import re
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import gdown
import pytest
import torch
from fastreid.modeling.backbones import build_backbone, resnet

import igoas_plugin
from igoas_plugin.core.errors import InputError

ROOT = Path(__file__).parents[2]
URL = "https://example.org/resnet18.pth"


def weights_file(path, value=0.5) -> str:
    """Writes weights for ResNet-18; returns the SHA-256 of the file."""
    torch.save({"conv1.weight": torch.full((64, 3, 7, 7), value)}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def backbone(**options):
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.PRETRAIN = (
        "build_resnet_backbone",
        "18x",
        True,
    )
    for key, value in options.items():
        cfg.MODEL.BACKBONE[key] = value
    return build_backbone(cfg)


def refusal(**options) -> str:
    with pytest.raises(InputError) as error:
        backbone(**options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(autouse=True)
def cached(monkeypatch, tmp_path) -> Path:
    """Path of the downloaded file, in an empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(resnet.model_urls, "18x", URL)
    return tmp_path / "cache" / "checkpoints" / "resnet18.pth"


@pytest.fixture
def served(monkeypatch, tmp_path):
    """File that every download returns, and the list of the links that were requested."""
    file, asked = tmp_path / "served.pth", []

    def download(url, path, **_):
        asked.append(url)
        Path(path).write_bytes(file.read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(gdown, "download", download)
    return file, asked


def files_in(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_downloaded_once(cached, served):
    weights_file(served[0])
    backbone()
    assert (backbone().conv1.weight == 0.5).all()
    assert served[1] == [URL] and files_in(cached.parent) == ["resnet18.pth"]


def test_a_file_on_a_drive_is_downloaded_by_gdown(served, monkeypatch):
    monkeypatch.setitem(resnet.model_urls, "18x", "https://drive.google.com/uc?id=1")
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("not by gdown"))
    digest = weights_file(served[0])
    assert (backbone(PRETRAIN_SHA256=digest).conv1.weight == 0.5).all()
    assert served[1] == ["https://drive.google.com/uc?id=1"]


def test_only_the_first_process_of_a_machine_downloads(cached, served, monkeypatch):
    weights_file(served[0])
    monkeypatch.setattr("fastreid.utils.comm.get_local_rank", lambda: 1)
    monkeypatch.setattr("fastreid.utils.comm.synchronize", lambda: None)
    assert "the first process of this machine could not download it" in refusal()
    cached.parent.mkdir(parents=True)
    weights_file(cached)
    assert (backbone().conv1.weight == 0.5).all() and served[1] == []


def test_a_file_that_is_there_but_not_what_the_link_tells_is_refused(cached, served, monkeypatch):
    cached.parent.mkdir(parents=True)
    file = cached.with_name("resnet18-5c106cde.pth")
    digest = weights_file(file)
    monkeypatch.setitem(resnet.model_urls, "18x", "https://download.pytorch.org/models/resnet18-5c106cde.pth")
    assert f"{file} has the SHA-256 {digest}, expected 5c106cde; delete it" in refusal()
    assert f"{file} has the SHA-256 {digest}" in refusal(PRETRAIN_SHA256="0" * 64)
    assert files_in(cached.parent) == [file.name]


def test_a_download_that_is_not_what_is_pinned_leaves_no_file(cached, served):
    digest = weights_file(served[0])
    assert f"has the SHA-256 {digest}, expected {'0' * 64}" in refusal(PRETRAIN_SHA256="0" * 64)
    assert files_in(cached.parent) == []


def test_a_download_that_is_what_is_pinned_is_taken(cached, served):
    digest = weights_file(served[0])
    assert (backbone(PRETRAIN_SHA256=digest.upper()).conv1.weight == 0.5).all()
    assert "expected 0000" in refusal(PRETRAIN_SHA256="0" * 64)  # the cached file is compared too


def test_a_local_file_is_held_to_what_is_pinned(tmp_path):
    path = tmp_path / "local.pth"
    digest = weights_file(path)
    assert (backbone(PRETRAIN_PATH=str(path), PRETRAIN_SHA256=digest).conv1.weight == 0.5).all()
    line = refusal(PRETRAIN_PATH=str(path), PRETRAIN_SHA256="0" * 64)
    assert f"{path} has the SHA-256 {digest}, expected {'0' * 64}" in line


@pytest.mark.parametrize("text", ["abc", "g" * 64, "0" * 63])
def test_a_pin_that_is_no_digest_is_refused(text, served):
    assert "MODEL.BACKBONE.PRETRAIN_SHA256 must be 64 hexadecimal digits" in refusal(PRETRAIN_SHA256=text)
    assert served[1] == []


@pytest.mark.parametrize("url", ["http://example.org/resnet18.pth", "ftp://example.org/a.pth", "file:///a.pth"])
def test_a_link_without_encryption_is_refused_and_not_asked_for(url, served, monkeypatch):
    monkeypatch.setitem(resnet.model_urls, "18x", url)
    assert f"the link to pretrained weights '18x' is not https: {url}" in refusal()
    assert served[1] == []


def test_every_link_of_the_host_is_https():
    from fastreid.modeling.backbones import mobilenetv3, osnet, resnest, resnext
    from fastreid.modeling.backbones.regnet import effnet, regnet

    modules = (resnet, resnext, resnest, osnet, mobilenetv3, regnet, effnet)
    links = [url for module in modules for url in module.model_urls.values()]
    assert len(links) == 39 and all(url.startswith("https://") for url in links)


@pytest.mark.fault
def test_a_run_that_asks_for_nothing_fetches_nothing(tool_command, tiny_duke, tmp_path):
    """Trains in a process that prints every connection and look-up, and lets it fail."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        "def ask(*what, **_):\n"
        "    print('CONNECTS', what)\n"
        "    raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = ask\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, *tool_command("MODEL.BACKBONE.PRETRAIN", "False")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment)
    assert done.returncode == 0, done.stderr
    assert "CONNECTS" not in done.stdout + done.stderr
    asks = [sys.executable, *tool_command("MODEL.BACKBONE.PRETRAIN", "True")]
    done = subprocess.run(asks, capture_output=True, text=True, timeout=1800, env=environment)
    assert done.returncode == 2 and "CONNECTS" in done.stdout  # the spy sees connections


# A real server


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Folder and address of an https server with a certificate that this process trusts."""
    folder, key, certificate = tmp_path / "served", tmp_path / "key.pem", tmp_path / "certificate.pem"
    folder.mkdir()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes a certificate, is not installed")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    running.socket = context.wrap_socket(running.socket, server_side=True)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    yield folder, f"https://localhost:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


@pytest.mark.fault
def test_weights_come_from_a_real_server_whole_or_not_at_all(server, cached, monkeypatch, host_log):
    folder, address = server
    digest = weights_file(folder / "resnet18.pth")
    monkeypatch.setitem(resnet.model_urls, "18x", f"{address}/resnet18.pth")
    assert "invalid hash value" in refusal(PRETRAIN_SHA256="0" * 64)
    assert files_in(cached.parent) == []
    assert (backbone(PRETRAIN_SHA256=digest).conv1.weight == 0.5).all()
    assert files_in(cached.parent) == ["resnet18.pth"]


@pytest.mark.fault
def test_a_server_whose_certificate_nobody_trusts_is_not_taken(server, cached, monkeypatch):
    folder, address = server
    weights_file(folder / "resnet18.pth")
    monkeypatch.setitem(resnet.model_urls, "18x", f"{address}/resnet18.pth")
    monkeypatch.delenv("SSL_CERT_FILE")
    assert re.search("SSLError|certificate verify failed", refusal())
    assert files_in(cached.parent) == []
