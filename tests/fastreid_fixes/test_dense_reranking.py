import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import numpy as np
import pytest
import torch
from fastreid.utils.compute_dist import build_dist


def rerank_by_hand(features: torch.Tensor, k1: int, k2: int) -> np.ndarray:
    """Returns Jaccard distances of k-reciprocal encodings (Zhong et al., CVPR 2017, section 3), image by image.

    As in fast-reid, an image is its own first neighbour, and weights are a softmax over squared distances.
    """
    squared = torch.cdist(features.double(), features.double()).pow(2).numpy()
    count = len(features)
    order = np.argsort(squared, axis=1)

    def reciprocal(image: int, k: int) -> set[int]:
        near = order[image, :k1][: k + 1]
        return {int(other) for other in near if image in order[other, :k1][: k + 1]}

    encodings = np.zeros((count, count))
    for image in range(count):
        close = reciprocal(image, k1)
        expanded = set(close)
        for candidate in close:
            of_candidate = reciprocal(candidate, round(k1 / 2))
            if len(of_candidate & close) > 2 / 3 * len(of_candidate):
                expanded |= of_candidate
        members = sorted(expanded)
        weights = np.exp(-squared[image, members])
        encodings[image, members] = weights / weights.sum()
    encodings = np.stack([encodings[order[image, :k2]].mean(axis=0) for image in range(count)])

    distances = np.zeros((count, count))
    for one in range(count):
        for other in range(count):
            shared = np.minimum(encodings[one], encodings[other]).sum()
            distances[one, other] = 1 - shared / (2 - shared)
    return distances


def some_features(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 6, generator=generator)
    return torch.nn.functional.normalize(
        centres[torch.arange(count) % 4] + torch.randn(count, 6, generator=generator), dim=1
    )


def test_without_the_plugin_reranking_fails(raw_host):
    assert "Error" in raw_host["reranking"]


def test_without_the_plugin_neighbours_that_do_not_exist_have_the_index_minus_one(raw_host):
    assert [row[3:] for row in raw_host["neighbours_of_three_images"]] == [[-1, -1]] * 3


@pytest.mark.parametrize("count, k1, k2", [(40, 8, 3), (40, 20, 6), (24, 9, 1)])
def test_reranking_agrees_with_the_method_written_image_by_image(count, k1, k2):
    features = some_features(count)
    found = build_dist(features[:10], features[10:], "jaccard", k1=k1, k2=k2)
    np.testing.assert_allclose(found, rerank_by_hand(features, k1, k2)[:10, 10:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [3, 7, 20])
def test_reranking_of_fewer_images_than_k1_takes_those_there_are(count):
    features = some_features(count)
    found = build_dist(features[:2], features[2:], "jaccard", k1=20, k2=6)
    np.testing.assert_allclose(found, rerank_by_hand(features, 20, 6)[:2, 2:], rtol=1e-4, atol=1e-5)


def test_the_features_are_not_changed():
    features = some_features(12)
    before = features.clone()
    build_dist(features[:4], features[4:], "jaccard", k1=5, k2=2)
    torch.testing.assert_close(features, before, rtol=0, atol=0)


@pytest.mark.gpu
def test_features_on_a_gpu_give_the_same_distances():
    features = some_features(40)
    found = build_dist(features[:10].cuda(), features[10:].cuda(), "jaccard", k1=8, k2=3)
    np.testing.assert_array_equal(found, build_dist(features[:10], features[10:], "jaccard", k1=8, k2=3))
