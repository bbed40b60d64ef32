"""A branch behind the shared trunk."""

import copy

from torch import Tensor, nn

from .attention import OcclusionSuppressionModule
from .backbones import SplitBackbone


class Branch(nn.Module):
    """Private last stage behind the shared trunk: [attention ->] last stage [-> extra block] [-> attention].

    Args:
        split: the backbone. The branch copies its last stage, weights included.
        attention: whether an OcclusionSuppressionModule stands before the last stage and one at the end (suppression
            branch).
        extra_block: whether one more block follows the last stage, see SplitBackbone (released code, not in the paper).
    """

    def __init__(self, split: SplitBackbone, *, attention: bool, extra_block: bool):
        super().__init__()
        self.has_attention = attention
        self.attention_before = OcclusionSuppressionModule(split.trunk_channels) if attention else nn.Identity()
        self.last_stage = copy.deepcopy(split.last_stage)
        self.extra_block = split.make_block() if extra_block else nn.Identity()
        self.attention_after = OcclusionSuppressionModule(split.channels) if attention else nn.Identity()

    def forward(self, shared: Tensor) -> tuple[Tensor, Tensor]:
        """Returns two feature maps of the branch.

        Args:
            shared: feature map of the trunk, (B, trunk_channels, h, w).

        Returns:
            The last feature map, (B, channels, h', w'), and the input of the last stage, (B, trunk_channels, h, w).
        """
        attended = self.attention_before(shared)
        feature_map = self.extra_block(self.last_stage(attended))
        return self.attention_after(feature_map), attended
