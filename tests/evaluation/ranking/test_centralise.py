import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from igoas_plugin.evaluation.ranking import centralise


def people(count: int, identities: int = 8, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    centres = torch.randn(identities, width, generator=generator)
    return 3 * (centres[torch.arange(count) % identities] + torch.randn(count, width, generator=generator))


def by_hand(features: torch.Tensor, first: int, neighbours: int, similarity: float) -> torch.Tensor:
    """Centralises descriptor by descriptor."""
    unit = features.double().numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    members = range(first, len(unit))
    nearest = {}
    for i in members:
        others = sorted((j for j in members if j != i), key=lambda j: -(unit[i] @ unit[j]))[:neighbours]
        nearest[i] = [j for j in others if unit[i] @ unit[j] >= similarity]
    found = unit.copy()
    for i in members:
        for j in nearest[i]:
            if i in nearest[j]:
                found[i] = found[i] + unit[j]
        found[i] /= np.linalg.norm(found[i])
    return torch.from_numpy(found).float()


@pytest.mark.parametrize("first", [0, 12])
@pytest.mark.parametrize("count, neighbours, similarity", [
    (70, 1, -1.0), (70, 2, -1.0), (70, 5, 0.0), (70, 20, 0.0), (70, 5, 0.6), (70, 5, 1.0), (20, 30, -1.0), (14, 5, 0.0),
    (13, 5, 0.0),
])  # fmt: skip
def test_it_is_the_centralisation_of_one_descriptor_after_the_other(first, count, neighbours, similarity):
    features = people(count)
    before = features.clone()
    found = centralise(features, first, neighbours, similarity)
    torch.testing.assert_close(found, by_hand(features, first, neighbours, similarity), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(count))
    assert torch.equal(features, before)


def test_a_neighbour_counts_only_if_it_is_mutual():
    # in degrees: 0 and 10 are each other's nearest; 25 is nearest to 10, whose nearest is 0
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 25.0]))
    found = centralise(torch.stack([angles.cos(), angles.sin()], 1), neighbours=1)
    torch.testing.assert_close(torch.rad2deg(torch.atan2(found[:, 1], found[:, 0])), torch.tensor([5.0, 5.0, 25.0]))


@pytest.mark.parametrize("neighbours", [1, 2, 3, 5])
def test_equal_descriptors_are_each_other_s_neighbours_and_stay_what_they_are(neighbours):
    # more copies than neighbours: which of them are found is arbitrary, and makes no difference
    features = people(6)[torch.arange(60) % 6]
    torch.testing.assert_close(centralise(features, neighbours=neighbours), normalize(features))


def test_a_descriptor_of_zeros_stays_finite():
    found = centralise(torch.cat([people(9), torch.zeros(3, 16)]))
    assert found.isfinite().all()
