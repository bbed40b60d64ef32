"""Distances of queries to gallery images, in blocks of queries."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

BLOCK_BYTES = 400 * 2**20  # of the distances in memory
CHUNK = 2**13  # gallery images in one matrix product
METRICS = ("cosine", "euclidean")


class Distances:
    """Distances of queries to gallery images, as an iterable of blocks of queries.

    The values are those of fast-reid's build_dist: 1 - cosine, or *squared* Euclidean distance. Each item is a pair
    (position of the block's first query, distances of shape (block, G) on the CPU). The caller may change the
    distances; the next block overwrites them. All distances of a descriptor that is not finite are infinite.

    Args:
        query, gallery: descriptors, float32, shapes (Q, D) and (G, D). Neither is copied or changed; the gallery may be
            mapped to a file.
        metric: one of METRICS.
        device: of the matrix products.

    Raises:
        ValueError: the metric is another one.

    Example:
        >>> query, gallery = torch.eye(2), torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
        >>> for first, rows in Distances(query, gallery, "cosine"):
        ...     print(first, rows)
        0 tensor([[0.0000, 0.2929, 1.0000],
                  [1.0000, 0.2929, 0.0000]])
    """

    def __init__(self, query: Tensor, gallery: Tensor, metric: str = "cosine", device: torch.device | str = "cpu"):
        if metric not in METRICS:
            raise ValueError(f"metric must be {' or '.join(METRICS)}, got {metric}")
        self.query, self.gallery, self.metric, self.device = query, gallery, metric, torch.device(device)
        self.norms = torch.linalg.vector_norm(gallery, dim=1)
        self.finite = bool(self.norms.isfinite().all() and query.isfinite().all())
        blocks = max(math.ceil(4 * len(query) * len(gallery) / BLOCK_BYTES), 1)
        self.block = max(math.ceil(len(query) / blocks), 1)  # blocks of about the same size

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        buffer = torch.empty(self.block, len(self.gallery), device=self.device)
        for first in range(0, len(self.query), self.block):
            query = self.query[first : first + self.block]
            rows = buffer[: len(query)]
            self.fill(rows, query.to(self.device))
            yield first, rows.cpu()

    @torch.no_grad()
    def fill(self, rows: Tensor, query: Tensor) -> None:
        """Writes the distances of a block of queries, shape (block, D), into rows, shape (block, G)."""
        query = normalize(query) if self.metric == "cosine" else query
        own = torch.linalg.vector_norm(query, dim=1, keepdim=True)
        for start in range(0, len(self.gallery), CHUNK):
            part = slice(start, start + CHUNK)
            chunk, norms = self.gallery[part].to(self.device), self.norms[part].to(self.device)
            found = torch.mm(query, chunk.t(), out=rows[:, part])
            if self.metric == "cosine":
                # dividing the products avoids a normalised copy of the gallery; 1e-12 as in normalize()
                found.mul_(-1 / norms.clamp(min=1e-12)).add_(1)
            else:
                found.mul_(-2).add_(own.square()).add_(norms.square())
            if not self.finite:
                found.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)
