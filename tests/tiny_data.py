"""A data set of a few 32x16 images, a backbone of three convolutions (both registered), and the config of a run."""

import os
from collections import OrderedDict

import numpy as np
import torch
from fastreid.config import get_cfg
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset
from fastreid.layers import get_norm
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.backbones.resnet import Bottleneck, ResNet
from PIL import Image
from torch import Tensor, nn

IDENTITIES, CAMERAS, SHOTS = 4, 2, 2  # 16 images, used for training, as query (camera 0) and as gallery
WIDTH = 64  # channels of the last feature map of TinyBackbone


@DATASET_REGISTRY.register()
class TinyReID(ImageDataset):
    """Identity p is a colour with noise; the same images are for training and for testing."""

    def __init__(self, root="datasets", **kwargs):
        folder = os.path.join(root, "TinyReID")
        items = []
        for name in sorted(os.listdir(folder)):
            pid, camera = int(name[0]), int(name[2])
            items.append((os.path.join(folder, name), pid, camera))
        train = [(path, f"tiny_{pid}", f"tiny_{camera}") for path, pid, camera in items]
        super().__init__(train, [item for item in items if item[2] == 0], items, **kwargs)


def make_tiny_data(root) -> None:
    rng = np.random.default_rng(0)
    folder = os.path.join(root, "TinyReID")
    os.makedirs(folder)
    for pid in range(IDENTITIES):
        colour = rng.integers(40, 216, 3)
        for camera in range(CAMERAS):
            for shot in range(SHOTS):
                pixels = np.clip(colour + rng.normal(0, 20, (32, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(os.path.join(folder, f"{pid}_{camera}_{shot}.png"))


def make_tiny_duke(root) -> None:
    """An Occluded-Duke of 4 identities, 2 cameras and 2 shots in each of its three parts."""
    make_market_style(os.path.join(root, "Occluded_Duke"), "{pid:04d}_c{camera}_f{shot:07d}.jpg", (32, 16))


def make_tiny_market(root) -> None:
    """A Market-1501 of 4 identities, 2 cameras and 2 shots in each of its three parts, with images of its size."""
    make_market_style(os.path.join(root, "Market-1501-v15.09.15"), "{pid:04d}_c{camera}s1_{shot:06d}_00.jpg", (128, 64))


def make_market_style(folder, name, size) -> None:
    rng = np.random.default_rng(0)
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        os.makedirs(os.path.join(folder, part))
        for pid in range(1, 5):
            for camera in (1, 2):
                for shot in (1, 2):
                    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                    path = os.path.join(folder, part, name.format(pid=pid, camera=camera, shot=shot))
                    Image.fromarray(pixels).save(path)


def make_tiny_occluded_reid(root) -> None:
    """An Occluded-REID of all its 200 identities, with 2 images in each of its two parts."""
    for part in ("occluded_body_images", "whole_body_images"):
        names = [f"{pid:03d}_{shot}.png" for pid in range(1, 201) for shot in (1, 2)]
        make_noise(os.path.join(root, "Occluded_REID", part), names)


def make_noise(folder, names) -> None:
    rng = np.random.default_rng(0)
    os.makedirs(folder)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(os.path.join(folder, name))


class TinyBackbone(nn.Module):
    """Three convolutions, each with a norm: images (B, 3, H, W) -> feature map (B, WIDTH, H / 8, W / 8)."""

    def __init__(self, bn_norm: str):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 2, 1, bias=False), get_norm(bn_norm, 16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, 2, 1, bias=False), get_norm(bn_norm, 32)
        self.conv3, self.bn3 = nn.Conv2d(32, WIDTH, 3, 2, 1, bias=False), get_norm(bn_norm, WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        feature_map = torch.relu(self.bn1(self.conv1(images)))
        feature_map = torch.relu(self.bn2(self.conv2(feature_map)))
        return torch.relu(self.bn3(self.conv3(feature_map)))

    def split_last_stage(self) -> tuple[nn.Module, nn.Module]:
        """Returns what IGOAS shares, and what each of its branches copies."""
        trunk = {"conv1": self.conv1, "bn1": self.bn1, "relu1": nn.ReLU()}
        trunk |= {"conv2": self.conv2, "bn2": self.bn2, "relu2": nn.ReLU()}
        last_stage = {"conv3": self.conv3, "bn3": self.bn3, "relu3": nn.ReLU()}
        return nn.Sequential(OrderedDict(trunk)), nn.Sequential(OrderedDict(last_stage))


@BACKBONE_REGISTRY.register()
def build_tiny_backbone(cfg) -> TinyBackbone:
    """Builds TinyBackbone; a test that names the depth of another network must name its builder too."""
    assert cfg.MODEL.BACKBONE.DEPTH == "tiny", f"TinyBackbone has no DEPTH {cfg.MODEL.BACKBONE.DEPTH}: set NAME as well"
    return TinyBackbone(cfg.MODEL.BACKBONE.NORM)


@BACKBONE_REGISTRY.register()
def build_short_resnet_backbone(cfg) -> ResNet:
    """Builds the shortest ResNet of bottlenecks that MGN and non-local blocks can take: 7 blocks, not 16."""
    keys = cfg.MODEL.BACKBONE
    switches = (keys.NORM, keys.WITH_IBN, keys.WITH_SE, keys.WITH_NL)
    return ResNet(keys.LAST_STRIDE, *switches, Bottleneck, layers=[1, 1, 2, 3], non_layers=[0, 1, 1, 0])


def use_resnet(cfg, depth="18x") -> None:
    """Sets a real ResNet ("short": that of build_short_resnet_backbone) in place of TinyBackbone."""
    cfg.MODEL.BACKBONE.NAME = f"build_{'short_' if depth == 'short' else ''}resnet_backbone"
    cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.FEAT_DIM = depth, 512 if depth in ("18x", "34x") else 2048


def use_tiny_backbone(cfg) -> None:
    """Sets TinyBackbone."""
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH = "build_tiny_backbone", "tiny"
    cfg.MODEL.BACKBONE.FEAT_DIM, cfg.MODEL.BACKBONE.PRETRAIN = WIDTH, False


def tiny_settings(cfg, output_dir) -> None:
    """Sets the keys of a run that takes a second on a CPU: TinyBackbone, 2 epochs of 2 steps."""
    cfg.MODEL.DEVICE = "cpu"
    use_tiny_backbone(cfg)
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [32, 16]
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("TinyReID",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.WARMUP_ITERS = 8, 2, 0
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD, cfg.TEST.IMS_PER_BATCH = 0, 1, 8
    cfg.OUTPUT_DIR = str(output_dir)


def host_cfg(output_dir=""):
    """Returns a tiny config of fast-reid's Baseline, with the keys of fast-reid only."""
    cfg = get_cfg()
    tiny_settings(cfg, output_dir)
    return cfg


def random_batch(images=8, classes=4, size=(32, 16), seed=0) -> dict:
    """Returns a batch as the loader of fast-reid gives it, pixels in [0, 255]."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "images": 255 * torch.rand(images, 3, *size, generator=generator),
        "targets": torch.arange(images) % classes,
        "camids": torch.zeros(images, dtype=torch.int64),
    }
