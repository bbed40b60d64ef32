"""ToyOccluded: a small drawn data set of occluded pedestrians, made on first use."""

import os
from dataclasses import dataclass

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset
from PIL import Image

from igoas_plugin.datasets.drawn_folder import provide
from igoas_plugin.datasets.market_style import SUBSETS, list_images

from .camera import CAMERAS
from .picture import draw_picture

VERSION = 2  # raise it with any change that alters a pixel


@dataclass(frozen=True)
class Shot:
    """One image of the data set before it is drawn; `camera` counts from 0, in the file name from 1."""

    subset: str
    identity: int
    camera: int
    index: int
    occluded: bool

    @property
    def path(self) -> str:
        """Path below the folder of the data set."""
        return f"{self.subset}/{self.identity:04d}_c{self.camera + 1}_{self.index:03d}.png"

    def draw(self) -> Image.Image:
        """Draws the image."""
        return draw_picture(self.identity, self.camera, self.index, self.occluded).image


@dataclass(frozen=True)
class Plan:
    """Numbers of identities. The shots of an identity are the same at every size."""

    train: int = 64  # identities of the training set, numbered from 1
    test: int = 40  # identities of query and gallery, numbered after those
    distractors: int = 12  # identities that only the gallery holds, numbered after those

    def shots(self) -> list[Shot]:
        """Returns every image: subset, identity, camera, and whether clutter stands before the pedestrian."""
        train, query, gallery = SUBSETS
        first, last = self.train + 1, self.train + self.test
        shots = []
        for camera in range(len(CAMERAS)):
            for person in range(1, self.train + 1):
                shots += [Shot(train, person, camera, index, index == 1) for index in range(2)]
            for person in range(first, last + 1):
                if camera != person % len(CAMERAS):
                    shots.append(Shot(query, person, camera, 0, True))
            for person in range(first, last + self.distractors + 1):
                shots.append(Shot(gallery, person, camera, 1, (person + camera) % 3 == 0))
        return shots


@DATASET_REGISTRY.register()
class ToyOccluded(ImageDataset):
    """Drawn pedestrians before four drawn cameras, with clutter over every query; made on first use.

    The clutter is cars, bins, bushes, boxes, poles, umbrellas, barriers and passers-by. Drawing all images into
    ``<root>/ToyOccluded`` takes ten to twenty seconds; the pixels are the same on every run.

    ========  ======  ==========  =======  ============================================
    subset    images  identities  cameras  hidden by clutter (20 to 50 % of the person)
    ========  ======  ==========  =======  ============================================
    train        512          64        4  half
    query        120          40        4  all
    gallery      208          52        4  a third
    ========  ======  ==========  =======  ============================================

    Protocol: a training identity has two images in each camera, the second behind clutter. A test identity is a query
    in three cameras, and has one gallery image in each of the four. The gallery's other 12 identities are distractors.
    As on Market-1501, gallery images of the query's identity in the query's camera are left out, so that each query
    has three right answers, all from other cameras. Identities 1 and 2, 3 and 4, ... wear the same colours and differ
    in cut, pattern, hair, shoes and bag. Each camera has its own place, light, colour cast, blur and noise.

    Purpose: a run on it takes every part of the system through its work in minutes, on any machine: reading, training
    with generated occlusion, ranking across cameras under clutter. An untrained model ranks badly on it. It is no
    evidence of accuracy: its figures say nothing about photographs, nor which of two methods is better.

    Images are 64 x 128 PNG files, ``<subset>/PPPP_cC_NNN.png``: identity, camera, index. No licence applies: the plugin
    draws all of it.

    Raises:
        InputError: the folder exists, but is not complete or of another version.
        OutputError: the folder cannot be written.
    """

    dataset_name = "toyoccluded"
    first_camera = 1
    plan = Plan()

    def __init__(self, root: str = "datasets", **kwargs):
        folder = self.dataset_dir = os.path.join(root, type(self).__name__)
        shots = {shot.path: shot for shot in self.plan.shots()}
        provide("ToyOccluded", folder, VERSION, shots, lambda path: shots[path].draw())
        train, query, gallery = (os.path.join(folder, subset) for subset in SUBSETS)
        super().__init__(
            lambda: list_images(train, self.dataset_name),
            lambda: list_images(query),
            lambda: list_images(gallery),
            **kwargs,
        )
