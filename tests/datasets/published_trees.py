"""Trees of files with the names or counts of the published data sets, every file one tiny image."""

import os
from pathlib import Path

from PIL import Image

from igoas_plugin.datasets.occluded_duke_names import official_names

OCCLUDED, PARTIAL, WHOLE = "occluded_body_images", "partial_body_images", "whole_body_images"


def make_tree(folder: Path, names, image_format: str = "JPEG") -> None:
    """Makes files of these names, all hard links to one image."""
    folder.mkdir(parents=True, exist_ok=True)
    first = folder.parent / f".{image_format}"
    if not first.exists():
        Image.new("RGB", (4, 8), (90, 60, 30)).save(first, format=image_format)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(first, path)


def occluded_duke() -> list[str]:
    return [
        f"{part}/{name}"
        for part in ("bounding_box_train", "query", "bounding_box_test")
        for name in official_names(part)
    ]


def occluded_reid(parts=(OCCLUDED, WHOLE), name="{p:03d}/{p:03d}_{i:02d}.tif") -> list[str]:
    return [f"{part}/{name.format(p=p, i=i)}" for part in parts for p in range(1, 201) for i in range(1, 6)]


def spread(images: int, identities: list[int], name: str) -> list[str]:
    """Returns so many names, spread evenly over the identities."""
    return [name.format(p=identities[n % len(identities)], i=n // len(identities) + 1) for n in range(images)]


def p_duke() -> list[str]:
    train, test = list(range(1, 666)), list(range(666, 1300))
    name = "{p:04d}/{p:04d}_{i}_00001.jpg"
    return [
        *(f"train/{OCCLUDED}/{each}" for each in spread(3000, train, name)),
        *(f"train/{WHOLE}/{each}" for each in spread(9927, train, name)),
        *(f"test/{OCCLUDED}/{each}" for each in spread(2163, test, name)),
        *(f"test/{WHOLE}/{each}" for each in spread(9053, test, name)),
    ]


def p_duke_in_market_style() -> list[str]:
    """Returns the names after a script of a user: _01 ends the name of an occluded image, _02 that of a whole one."""
    folders = {"train": "bounding_box_train", f"test/{OCCLUDED}": "query", f"test/{WHOLE}": "bounding_box_test"}
    renamed = []
    for path in p_duke():
        half, kind, _, name = path.split("/")
        folder = folders.get(half) or folders[f"{half}/{kind}"]
        renamed.append(f"{folder}/{name.removesuffix('.jpg')}_{'01' if kind == OCCLUDED else '02'}.jpg")
    return renamed


def p_ethz() -> list[str]:
    identities, name = list(range(1, 86)), "{p:03d}/{p:03d}_{i:03d}.png"
    return [
        *(f"{OCCLUDED}/{each}" for each in spread(1400, identities, name)),
        *(f"{WHOLE}/{each}" for each in spread(2497, identities, name)),
    ]


def partial_reid(parts=(OCCLUDED, PARTIAL, WHOLE), name="{p:03d}_{i:03d}.jpg") -> list[str]:
    return [f"{part}/{name.format(p=p, i=i)}" for part in parts for p in range(1, 61) for i in range(1, 6)]


def partial_ilids(parts=("Probe", "partial_iLIDS_Probe_nocrop", "Gallery"), name="{p}.jpg") -> list[str]:
    return [f"{part}/{name.format(p=p)}" for part in parts for p in range(1, 120)]
