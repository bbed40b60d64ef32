"""Re-ranking by k-reciprocal neighbours, with sparse matrices in place of all pairs."""

from collections.abc import Iterator

import faiss
import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from .distances import Distances

PAIRS = 2**14  # pairs of images whose distances are computed at once


class Reranked:
    """Weighted mean of distances and the Jaccard distances of k-reciprocal encodings, as blocks of queries.

    As in fast-reid, an image is its own first neighbour, and the weights of an encoding are a softmax over squared
    distances. fast-reid holds three (N, N) matrices. This class holds the neighbours of each image, one block of
    distances, and a copy of the descriptors while it finds the neighbours. Source: Zhong et al., CVPR 2017; fast-reid
    1.4.0.

    Args:
        distances: of the queries to the gallery.
        features: descriptors of queries and gallery by which neighbours are found, float32, shape (Q + G, D).
        k1: neighbours that count as close.
        k2: neighbours over which an encoding is averaged.
        weight: of the original distance, in [0, 1].
    """

    def __init__(self, distances: Distances, features: Tensor, k1: int = 20, k2: int = 6, weight: float = 0.3):
        self.distances, self.weight = distances, weight
        nearest = nearest_neighbours(features.numpy(), k1)
        codes = encodings(features, reciprocal_sets(nearest, k1))
        if k2 != 1:
            codes = averaging(nearest[:, :k2]) @ codes
        queries = len(distances.query)
        self.query_codes, self.gallery_codes = codes[:queries].tocsr(), codes[queries:].tocsc()

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for first, rows in self.distances:
            rows *= self.weight
            for position, row in enumerate(rows, start=first):
                row += torch.from_numpy((1 - self.weight) * self.jaccard(position)).float()
            yield first, rows

    def jaccard(self, position: int) -> np.ndarray:
        """Returns the Jaccard distances of one query to the gallery, shape (G,): 1 - sum of minima / sum of maxima."""
        query, gallery = self.query_codes, self.gallery_codes
        own = slice(query.indptr[position], query.indptr[position + 1])
        if own.start == own.stop:
            return np.ones(gallery.shape[0])
        parts = [slice(*gallery.indptr[column : column + 2]) for column in query.indices[own]]
        values = np.repeat(query.data[own], [part.stop - part.start for part in parts])
        minima = np.minimum(np.concatenate([gallery.data[part] for part in parts]), values)
        images = np.concatenate([gallery.indices[part] for part in parts])
        shared = np.bincount(images, minima, minlength=gallery.shape[0])
        return np.maximum(1 - shared / (2 - shared), 0)  # each encoding sums to 1


def nearest_neighbours(features: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices of the nearest images of each image, itself included, shape (N, min(count, N))."""
    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    return index.search(features, min(count, len(features)))[1]


def sets(members: np.ndarray) -> sparse.csr_array:
    """Returns rows of indices (N, k) as a matrix (N, N) of ones and zeros."""
    count, width = members.shape
    starts = np.arange(0, count * width + 1, width)
    return sparse.csr_array((np.ones(members.size, np.float32), members.ravel(), starts), shape=(count, count))


def averaging(members: np.ndarray) -> sparse.csr_array:
    """Returns the matrix (N, N) that averages over rows of indices (N, k)."""
    return sets(members) / np.float32(members.shape[1])


def reciprocal_sets(nearest: np.ndarray, k1: int) -> sparse.csr_array:
    """Returns the expanded sets of k-reciprocal neighbours, a matrix (N, N) with an entry for each member.

    Two images are reciprocal if each is among the other's nearest. The set of an image also takes in the half-sized set
    of a member, if more than two thirds of that set are in it already (section 3.1 of the paper).
    """
    close, half = sets(nearest), sets(nearest[:, : int(np.around(k1 / 2)) + 1])
    close, half = close.multiply(close.T).tocsr(), half.multiply(half.T).tocsr()
    shared = close.multiply(close @ half.T).tocsr()  # [image, member]: how many of the member's half-sized set
    sizes = half.sum(axis=1)
    shared.data = (shared.data > 2 / 3 * sizes[shared.indices]).astype(np.float32)
    return (close + shared @ half).tocsr()


def encodings(features: Tensor, members: sparse.csr_array) -> sparse.csr_array:
    """Returns the softmax of the negated squared distances of each image to the members of its set, (N, N)."""
    members.eliminate_zeros()
    pairs = members.tocoo()
    squares = np.empty(members.nnz, np.float32)
    for start in range(0, members.nnz, PAIRS):
        part = slice(start, start + PAIRS)
        squares[part] = (features[pairs.row[part]] - features[pairs.col[part]]).square().sum(1).numpy()
    nearest = np.full(members.shape[0], np.inf, np.float32)
    np.minimum.at(nearest, pairs.row, squares)
    weights = np.exp(nearest[pairs.row] - squares)
    weights /= np.bincount(pairs.row, weights, minlength=members.shape[0]).astype(np.float32)[pairs.row]
    return sparse.csr_array((weights, members.indices, members.indptr), shape=members.shape)
