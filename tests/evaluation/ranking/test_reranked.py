import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import pytest
import torch
from fastreid.utils.compute_dist import build_dist
from torch.nn.functional import normalize

from igoas_plugin.evaluation.ranking import Distances, Reranked, distances


def people(count: int, identities: int = 8, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    centres = torch.randn(identities, width, generator=generator)
    return centres[torch.arange(count) % identities] + torch.randn(count, width, generator=generator)


def reranked(features, queries, k1, k2, weight) -> torch.Tensor:
    blocks = Reranked(Distances(features[:queries], features[queries:]), normalize(features), k1, k2, weight)
    return torch.cat([rows.clone() for _, rows in blocks])


@pytest.mark.parametrize("count, k1, k2", [(150, 20, 6), (150, 7, 3), (60, 15, 1), (30, 20, 6), (7, 20, 6)])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_it_is_fast_reid_s_dense_reranking(monkeypatch, count, k1, k2, weight):
    monkeypatch.setattr(distances, "BLOCK_BYTES", 1000)  # several blocks
    features, queries = people(count), max(count // 5, 2)
    query, gallery = normalize(features)[:queries], normalize(features)[queries:]
    dense = (1 - weight) * build_dist(query, gallery, "jaccard", k1=k1, k2=k2)
    dense += weight * build_dist(features[:queries], features[queries:], "cosine")
    found = reranked(features, queries, k1, k2, weight)
    # fast-reid's squared distances are differences of products in float32
    torch.testing.assert_close(found, torch.from_numpy(dense), rtol=1e-4, atol=1e-5)


def test_images_that_share_no_neighbour_are_as_far_as_can_be():
    features = torch.cat([torch.eye(2)[:1].repeat(6, 1), torch.eye(2)[1:].repeat(6, 1)])
    features = features + 0.01 * torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    found = reranked(features, 2, k1=4, k2=2, weight=0.0)
    assert found[:, 4:].eq(1).all() and (found[:, :4] < 1).any()


def test_many_images_that_are_the_same_are_ranked_too():
    # an image of thirty that are equal need not be among its own nearest: its set may be empty
    features = torch.cat([torch.ones(30, 4), people(10, width=4)])
    found = reranked(features, 5, k1=6, k2=3, weight=0.5)
    assert found.isfinite().all() and (found >= -1e-6).all() and (found <= 1.5).all()
