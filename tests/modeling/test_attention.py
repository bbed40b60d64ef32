import torch

from igoas_plugin.modeling.attention import OcclusionSuppressionModule


def slow_attention(module, feature_map):
    """The two gates of the paper, position by position."""
    batch, channels, height, width = feature_map.shape
    w1, b1 = module.fc1.weight[:, :, 0, 0], module.fc1.bias
    w2, b2 = module.fc2.weight[:, :, 0, 0], module.fc2.bias
    out = torch.empty_like(feature_map)
    for b in range(batch):
        flat = feature_map[b].reshape(channels, -1)
        hidden = [w2 @ torch.clamp(w1 @ pooled + b1, min=0) + b2 for pooled in (flat.mean(1), flat.max(1).values)]
        gated = feature_map[b] / (1 + torch.exp(-(hidden[0] + hidden[1])))[:, None, None]
        stacked = torch.zeros(2, height + 2, width + 2, dtype=feature_map.dtype)  # padded by 1
        stacked[0, 1:-1, 1:-1], stacked[1, 1:-1, 1:-1] = gated.mean(0), gated.max(0).values
        for i in range(height):
            for j in range(width):
                window = stacked[:, i : i + 3, j : j + 3]
                spatial = (module.spatial.weight[0] * window).sum() + module.spatial.bias[0]
                out[b, :, i, j] = gated[:, i, j] / (1 + torch.exp(-spatial))
    return out


def made(channels=32):
    torch.manual_seed(0)
    return OcclusionSuppressionModule(channels).double(), torch.randn(2, channels, 4, 3, dtype=torch.float64)


def test_it_equals_the_gates_written_out():
    module, feature_map = made()
    torch.testing.assert_close(module(feature_map), slow_attention(module, feature_map))


def test_gates_only_weaken_and_keep_shape_and_sign():
    module, feature_map = made()
    out = module(feature_map)
    assert out.shape == feature_map.shape
    assert (out.abs() < feature_map.abs()).all() and (out.sign() == feature_map.sign()).all()


def test_reduction_is_16_and_every_layer_has_a_bias():
    module = OcclusionSuppressionModule(1024)
    assert {name: tuple(parameter.shape) for name, parameter in module.named_parameters()} == {
        "fc1.weight": (64, 1024, 1, 1), "fc1.bias": (64,), "fc2.weight": (1024, 64, 1, 1), "fc2.bias": (1024,),
        "spatial.weight": (1, 2, 3, 3), "spatial.bias": (1,),
    }  # fmt: skip


def test_gradients_are_right():
    module, feature_map = made(16)
    assert torch.autograd.gradcheck(module, feature_map[:1].requires_grad_())
