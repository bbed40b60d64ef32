import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import numpy as np
import pytest
import torch
from fastreid.utils.compute_dist import build_dist

from igoas_plugin.evaluation.ranking import Distances, distances


def some_descriptors(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(size, 24, generator=generator) for size in sizes]


def whole(found: Distances) -> torch.Tensor:
    return torch.cat([rows.clone() for _, rows in found])


@pytest.mark.parametrize("metric", distances.METRICS)
@pytest.mark.parametrize("queries, images", [(1, 1), (10, 50), (23, 7)])
def test_in_blocks_and_chunks_they_are_fast_reid_s(monkeypatch, metric, queries, images):
    monkeypatch.setattr(distances, "BLOCK_BYTES", 4 * 6 * images)
    monkeypatch.setattr(distances, "CHUNK", 4)
    query, gallery = some_descriptors(queries, images)
    copies = query.clone(), gallery.clone()
    found = Distances(query, gallery, metric)
    firsts = [first for first, rows in found if len(rows) <= 6]
    assert firsts == list(range(0, queries, found.block)) and len(firsts) == -(-queries // 6)
    expected = torch.from_numpy(build_dist(query, gallery, metric))
    # float32 sums in another order; squared distances are differences of sums near 400
    torch.testing.assert_close(whole(found), expected, rtol=1e-6, atol=1e-6 if metric == "cosine" else 1e-3)
    assert torch.equal(query, copies[0]) and torch.equal(gallery, copies[1])


def test_blocks_are_of_about_the_same_size(monkeypatch):
    query, gallery = some_descriptors(10, 8)
    monkeypatch.setattr(distances, "BLOCK_BYTES", 4 * 8 * 9)  # nine of the ten queries
    assert [len(rows) for _, rows in Distances(query, gallery)] == [5, 5]


@pytest.mark.parametrize("metric", distances.METRICS)
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_descriptor_that_is_not_finite_is_infinitely_far_and_harms_no_other(metric, broken):
    query, gallery = some_descriptors(3, 5)
    sound = whole(Distances(query, gallery, metric))
    query[1, 3], gallery[2, 0] = broken, broken
    found = whole(Distances(query, gallery, metric))
    others = torch.ones(3, 5, dtype=torch.bool)
    others[1], others[:, 2] = False, False
    assert torch.isposinf(found[~others]).all()
    torch.testing.assert_close(found[others], sound[others], rtol=1e-6, atol=1e-5)


def test_a_descriptor_of_zeros_has_the_distance_one():
    assert whole(Distances(torch.eye(2), torch.zeros(1, 2), "cosine")).tolist() == [[1], [1]]


def test_the_gallery_may_be_a_file(tmp_path):
    query, gallery = some_descriptors(4, 30)
    np.save(tmp_path / "gallery.npy", gallery.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "gallery.npy", mmap_mode="c"))
    torch.testing.assert_close(whole(Distances(query, mapped)), whole(Distances(query, gallery)), rtol=0, atol=0)


def test_another_metric_is_refused():
    with pytest.raises(ValueError, match="metric must be cosine or euclidean, got jaccard"):
        Distances(torch.eye(2), torch.eye(2), "jaccard")


@pytest.mark.gpu
@pytest.mark.parametrize("metric", distances.METRICS)
def test_on_a_gpu_they_are_the_same(metric):
    query, gallery = some_descriptors(10, 50)
    found = whole(Distances(query, gallery, metric, "cuda"))
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, whole(Distances(query, gallery, metric)), rtol=1e-5, atol=1e-3)
