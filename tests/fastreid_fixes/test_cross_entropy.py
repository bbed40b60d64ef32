import pytest
import torch
from fastreid.modeling.losses import cross_entropy_loss

TARGETS = torch.tensor([0, 2, 1, 2])


def drawn_logits() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def smoothed(logits, eps, alpha) -> torch.Tensor:
    """Returns the mean over samples of -sum_k t_k log p_k, computed one by one."""
    losses = []
    for row, target in zip(logits, TARGETS, strict=True):
        probabilities = row.exp() / row.exp().sum()
        share = eps if eps >= 0 else alpha * probabilities[target].detach()
        losses.append(-sum((1 - share if k == target else share / 2) * probabilities[k].log() for k in range(3)))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("eps, alpha", [(0.0, 0.2), (0.1, 0.2), (-1.0, 0.2), (-1.0, 0.5)])
def test_value_and_gradient_are_those_of_the_sum(eps, alpha):
    logits, same = drawn_logits().requires_grad_(), drawn_logits().requires_grad_()
    loss, expected = cross_entropy_loss(logits, TARGETS, eps, alpha), smoothed(same, eps, alpha)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(logits.grad, same.grad)


def test_samples_without_a_loss_do_not_count():
    logits = torch.tensor([[0.0, 0.0], [200.0, 0.0]])  # log(2), and a loss of exactly 0
    assert cross_entropy_loss(logits, torch.tensor([0, 0]), 0.0) == pytest.approx(0.693147)
    assert cross_entropy_loss(logits[1:], torch.tensor([0]), 0.0) == 0


def test_it_is_fast_reid_s_value(raw_host):
    expected = raw_host["cross_entropy"]
    values = [float(cross_entropy_loss(drawn_logits().float(), TARGETS, eps)) for eps in (0.1, -1.0)]
    assert values == pytest.approx(expected, rel=1e-6)  # float32
