import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import pytest
import torch
from fastreid.evaluation.query_expansion import aqe
from torch.nn.functional import normalize

from igoas_plugin.evaluation.ranking import expand, expansion


@pytest.mark.parametrize("times, neighbours, alpha", [(1, 10, 3.0), (3, 5, 1.0), (1, 1, 3.0), (2, 300, 3.0)])
def test_it_is_fast_reid_s_expansion(monkeypatch, times, neighbours, alpha):
    monkeypatch.setattr(expansion, "BLOCK", 32)
    features = torch.randn(120, 16, generator=torch.Generator().manual_seed(0)).abs()
    before = features.clone()
    found = expand(features, times, neighbours, alpha)
    expected = torch.cat(aqe(features[:20].clone(), features[20:].clone(), times, neighbours, alpha))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(features, before)


def test_the_nearest_are_weighted_by_their_similarity():
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0], [0.0, -1.0]])
    # the two nearest of the first: itself (similarity 1) and the second (0.6), with weights 1 and 0.36
    expected = torch.stack([features[0], 0.36 * features[1]]).mean(0)
    torch.testing.assert_close(expand(features, 1, 2, 2.0)[0], expected)
    assert not torch.allclose(normalize(expected, dim=0), features[0])
