"""Neighbour feature centralisation without the similarities of all pairs."""

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from .reranking import sets


def centralise(features: Tensor, first: int = 0, neighbours: int = 5, similarity: float = 0.0) -> Tensor:
    """Adds to each descriptor those of its mutual nearest neighbours, and divides the sum by its length.

    Two descriptors are mutual neighbours if each is among the nearest of the other by cosine similarity, itself not
    counted. All descriptors are divided by their length first, so that each has the same weight. Of descriptors at the
    same similarity, any may count as the nearest. The function needs the memory of two copies of the descriptors.
    Source: Neighbor Feature Centralization of Pose2ID, Yuan et al., CVPR 2025, where query and gallery take part.

    Args:
        features: descriptors, float32, finite, shape (N, D); not changed.
        first: position of the first descriptor that takes part. Those before it are only divided by their length.
        neighbours: number of nearest descriptors, 1 or more; of fewer descriptors all are taken.
        similarity: least cosine similarity of a neighbour, in [-1, 1]. From 0 on, no sum is shorter than 1.

    Returns:
        New descriptors, shape (N, D), each of length 1; a descriptor of zeros without neighbours stays zero.

    Example:
        The first two are mutual neighbours; the third is nearest to the second, which is nearer to the first.

        >>> centralise(torch.tensor([[2.0, 0.0], [3.0, 4.0], [-1.0, 0.0]]), neighbours=1)
        tensor([[ 0.8944,  0.4472],
                [ 0.8944,  0.4472],
                [-1.0000,  0.0000]])
    """
    features = normalize(features)
    unit = features[first:]
    similarities, nearest = faiss.knn(
        unit.numpy(), unit.numpy(), min(neighbours + 1, len(unit)), metric=faiss.METRIC_INNER_PRODUCT
    )
    others = nearest != np.arange(len(unit))[:, None]
    others[others.all(1), neighbours:] = False  # of many equal descriptors, one need not find itself
    close = sets(nearest)
    close.data = (others & (similarities >= similarity)).astype(np.float32).ravel()
    unit += torch.from_numpy(close.multiply(close.T).tocsr() @ unit.numpy())
    unit /= torch.linalg.vector_norm(unit, dim=1, keepdim=True).clamp_(min=1e-12)
    return features
