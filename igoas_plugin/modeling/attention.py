"""Attention of the suppression branch."""

import torch
from torch import Tensor, nn


class OcclusionSuppressionModule(nn.Module):
    """CBAM attention: a gate for each channel, then a gate for each position (OSM, section III-C of the paper).

    Channel gate: sigmoid(fc2(relu(fc1(avg))) + fc2(relu(fc1(max)))) over the positions. Spatial gate:
    sigmoid(conv3x3([mean, max])) over the channels.

    Source: IGOAS (TIP 2021); CBAM (ECCV 2018); the released code.

    Args:
        channels: C of the feature map.
        reduction: the hidden layer of the channel gate has channels // reduction units, at least one.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.spatial = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Returns the gated feature map, (B, C, H, W) -> (B, C, H, W)."""
        average, maximum = feature_map.mean((2, 3), keepdim=True), feature_map.amax((2, 3), keepdim=True)
        channel_gate = torch.sigmoid(self.shared_mlp(average) + self.shared_mlp(maximum))
        feature_map = feature_map * channel_gate
        over_channels = torch.cat([feature_map.mean(1, keepdim=True), feature_map.amax(1, keepdim=True)], 1)
        spatial_gate = torch.sigmoid(self.spatial(over_channels))
        return feature_map * spatial_gate

    def shared_mlp(self, pooled: Tensor) -> Tensor:
        """Returns the channel logits of pooled features, (B, C, 1, 1) -> (B, C, 1, 1)."""
        return self.fc2(torch.relu(self.fc1(pooled)))
