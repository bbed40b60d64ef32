"""Layers of fast-reid in mixed precision and as norm of a head."""

import functools

from fastreid.layers.batch_norm import FrozenBatchNorm, GhostBatchNorm
from fastreid.layers.pooling import Flatten
from torch import Tensor

from .fix import fix
from .preprocessing import stored_as


def flatten(self, input: Tensor) -> Tensor:
    """Replaces Flatten.forward: (B, C, H, W) in any memory format -> (B, C * H * W, 1, 1)."""
    return input.reshape(input.size(0), -1, 1, 1)


def with_contiguous_maps(forward):
    """Returns forward() that computes with contiguous feature maps and keeps the memory format of its input."""

    @functools.wraps(forward)
    def wrapped(self, input: Tensor) -> Tensor:
        return stored_as(input, forward(self, input.contiguous()))

    return wrapped


@fix
def take_maps_in_any_memory_format() -> None:
    """RuntimeError "view size is not compatible" in mixed precision, with MODEL.HEADS.POOL_LAYER Flatten.

    Cause: in mixed precision feature maps are channels last, and Flatten takes a view across channels and positions.
    So does a GhostBatchNorm with several splits.
    """
    Flatten.forward = flatten
    GhostBatchNorm.forward = with_contiguous_maps(GhostBatchNorm.forward)


@fix
def accept_frozen_norms_in_heads() -> None:
    """AttributeError: 'FrozenBatchNorm' has no attribute 'affine', with MODEL.HEADS.NORM FrozenBN and a BNNeck.

    Cause: fast-reid initialises the weights of every class with BatchNorm in its name if it is affine. Those of a
    FrozenBatchNorm are constants with the same values.
    """
    FrozenBatchNorm.affine = False
