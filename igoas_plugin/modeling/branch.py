import copy

from torch import Tensor, nn

from .attention import OcclusionSuppressionModule
from .backbones import SplitBackbone


class Branch(nn.Module):
    """A private last stage behind the shared trunk: [attention ->] last stage [-> extra block] [-> attention].

    Args:
        split: the backbone; its last stage is copied, weights included.
        attention: an OcclusionSuppressionModule before the last stage and one at the end (suppression branch).
        extra_block: one more block, see SplitBackbone (released code; the paper has none).
    """

    def __init__(self, split: SplitBackbone, *, attention: bool, extra_block: bool):
        super().__init__()
        self.attention_before = OcclusionSuppressionModule(split.trunk_channels) if attention else nn.Identity()
        self.last_stage = copy.deepcopy(split.last_stage)
        self.extra_block = split.make_block() if extra_block else nn.Identity()
        self.attention_after = OcclusionSuppressionModule(split.channels) if attention else nn.Identity()

    def forward(self, shared: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the branch.

        Args:
            shared: the trunk's feature map, (B, trunk_channels, h, w).

        Returns:
            Last feature map (B, channels, h', w'), and the one that enters the last stage, (B, trunk_channels, h, w).
        """
        entering = self.attention_before(shared)
        return self.attention_after(self.extra_block(self.last_stage(entering))), entering
