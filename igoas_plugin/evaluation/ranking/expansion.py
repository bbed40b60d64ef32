"""Average query expansion without the similarities of all pairs."""

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

BLOCK = 1024  # images whose neighbours are averaged at once


def expand(features: Tensor, times: int = 1, neighbours: int = 10, alpha: float = 3.0) -> Tensor:
    """Returns for each descriptor the weighted mean of its nearest descriptors, itself included.

    The weight of a neighbour is its cosine similarity to the power of alpha. The result is that of fast-reid's aqe,
    which holds (N, N) similarities; this function needs the memory of three copies of the descriptors. Sources: Chum et
    al., ICCV 2007; alpha: Radenovic et al., TPAMI 2019; fast-reid 1.4.0.

    Args:
        features: descriptors of query and gallery images, float32, shape (N, D); not changed.
        times: number of expansions, each of the result before.
        neighbours: number of descriptors that are averaged; at most N - 1.
        alpha: exponent of the weights.

    Returns:
        New descriptors, shape (N, D), not normalised.
    """
    neighbours = max(min(neighbours, len(features) - 1), 1)
    for _ in range(times):
        unit = normalize(features).numpy()
        index = faiss.IndexFlatIP(unit.shape[1])
        index.add(unit)
        expanded = torch.empty_like(features)
        for start in range(0, len(unit), BLOCK):
            part = slice(start, start + BLOCK)
            similarities, nearest = index.search(unit[part], neighbours)
            weights = np.power(similarities, alpha)[..., None]
            expanded[part] = torch.from_numpy(np.mean(features.numpy()[nearest] * weights, axis=1))
        features = expanded
    return features
