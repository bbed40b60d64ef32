"""Benchmark of the training loader (reading, decoding, transforms, collating) by the number of its workers."""

import os
import tempfile
from collections.abc import Iterator
from itertools import islice

import numpy as np
from fastreid.data import build_reid_train_loader
from fastreid.data.common import CommDataset
from fastreid.data.transforms import build_transforms
from PIL import Image

from igoas_plugin.core.timing import Row, measure

FILES, IDENTITIES = 256, 32
SIZES = ((128, 64), (256, 128))  # height and width of the files: those of Market-1501 and of larger data sets


def draw_files(folder: str, size: tuple[int, int]) -> list[tuple[str, str, str]]:
    """Writes JPEGs of smooth random colours, about as large as photographs, and returns the items of a data set."""
    draw, items = np.random.default_rng(0), []
    for index in range(FILES):
        coarse = Image.fromarray(draw.integers(256, size=(16, 8, 3), dtype=np.uint8)).resize(size[::-1], Image.BICUBIC)
        pixels = np.asarray(coarse, np.float32) + draw.normal(0, 6, (*size, 3))
        path = os.path.join(folder, f"{index}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        items.append((path, f"person_{index % IDENTITIES}", "camera_0"))
    return items


def loading(cfg, workers: list[int], batches: int, repeats: int) -> Iterator[Row]:
    """Times `batches` batches of SOLVER.IMS_PER_BATCH images, with the start of the workers.

    Args:
        cfg: INPUT, DATALOADER and SOLVER are read; the data set is generated.
        workers: numbers of loader workers; 0 loads in the main process.
        batches: of each repeat.
        repeats: of each number of workers.
    """
    size = cfg.SOLVER.IMS_PER_BATCH
    for height, width in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            data = CommDataset(draw_files(folder, (height, width)), build_transforms(cfg, is_train=True), relabel=True)

            def load(number: int, data=data):
                own = cfg.clone()
                own.defrost()
                own.DATALOADER.NUM_WORKERS = number

                def run():
                    for _ in islice(build_reid_train_loader(own, train_set=data), batches):
                        pass

                return run

            to = "x".join(map(str, cfg.INPUT.SIZE_TRAIN))
            case = f"{height}x{width} jpg to {to}, batch {size}"
            ways = {f"{number} workers": load(number) for number in workers}
            rows = measure(ways, case, repeats, work=batches * size, unit="images")
            for row in rows:
                row.memory_mb = None  # the memory of the workers is not measured
            yield from rows
