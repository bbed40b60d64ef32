"""Losses of IGOAS: suppression loss, weights of the identity losses, metric losses of fast-reid."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from fastreid.modeling import losses as fastreid_losses
from torch import Tensor

from igoas_plugin.core.errors import InputError, require_choice

BRANCHES = ("global", "suppression")
STAGES = ("last", "both")
# What the suppression loss acts on, made from a feature map (B, C, H, W)
RESPONSES = {
    "channel_mean": lambda feature_map: feature_map.mean(1, keepdim=True),
    "feature_map": lambda feature_map: feature_map,
}
# How the visibility mask is resized to a feature map
RESIZES = {
    "bilinear": functools.partial(F.interpolate, mode="bilinear", align_corners=True),
    "area": F.adaptive_avg_pool2d,
}
# Weights of the identity losses, made from the losses (N,)
ID_WEIGHTS = {
    "adaptive": lambda losses: losses.softmax(0),
    "detached": lambda losses: losses.detach().softmax(0),
    "mean": lambda losses: torch.full_like(losses, 1 / len(losses)),
}
# Metric losses: name in MODEL.LOSSES.NAME -> function of fast-reid, its config section, its arguments there
METRIC_LOSSES = {
    "TripletLoss": (fastreid_losses.triplet_loss, "TRI", ("MARGIN", "NORM_FEAT", "HARD_MINING")),
    "CircleLoss": (fastreid_losses.pairwise_circleloss, "CIRCLE", ("MARGIN", "GAMMA")),
    "Cosface": (fastreid_losses.pairwise_cosface, "COSFACE", ("MARGIN", "GAMMA")),
}


def suppression_loss(
    feature_map: Tensor, visible: Tensor, on: str = "channel_mean", resize: str = "bilinear"
) -> Tensor:
    r"""Computes the mean square of the response inside the generated occlusion.

    .. math:: L = \frac{1}{|r|} \sum [r - v \cdot r]^2

    r is the channel mean of the feature map, or the feature map itself. The gradient flows through both terms.

    Source: IGOAS (TIP 2021), eq. 1 (feature map); the released code (channel mean).

    Args:
        feature_map: shape (B, C, H, W).
        visible: 1 on kept pixels, 0 on occluded ones, shape (B, 1, h, w); resized to (H, W).
        on: "channel_mean" or "feature_map".
        resize: "bilinear" or "area". "bilinear" aligns the corners, as the released code does. A cell then sees the
            four pixels around one point of the image, so that on a coarse map no cell sees most occlusions. With "area"
            a cell sees the visible share of all its pixels.

    Returns:
        Scalar, not negative, float32 (float64 for a float64 feature map).

    Example:
        >>> suppression_loss(torch.tensor([[[[2.0, 4.0]]]]), visible=torch.tensor([[[[1.0, 0.0]]]]))
        tensor(8.)
    """
    response = RESPONSES[on](feature_map if feature_map.dtype == torch.float64 else feature_map.float())
    visible = RESIZES[resize](visible.to(response.dtype), response.shape[2:])
    return F.mse_loss(response, response * visible)


@dataclass(frozen=True)
class SuppressionLoss:
    """Suppression loss of the chosen branches and stages; its settings are the keys of MODEL.IGOAS.MASK_LOSS.

    Args:
        scale: weight of the loss, not negative; 0 leaves it out.
        on, resize: as of suppression_loss().
        branches: branches that get the loss, a part of ("global", "suppression").
        stages: "last" (the last feature map of a branch) or "both" (also the map behind the first attention module of
            the suppression branch).

    Raises:
        InputError: a value is unknown or outside its range, or `stages` is "both" without the suppression branch.
    """

    scale: float = 1.0
    on: str = "channel_mean"
    resize: str = "bilinear"
    branches: Sequence[str] = BRANCHES
    stages: str = "last"

    def __post_init__(self):
        if self.scale < 0:
            raise InputError(f"MODEL.IGOAS.MASK_LOSS.SCALE must not be negative, got {self.scale}")
        require_choice("MODEL.IGOAS.MASK_LOSS.ON", self.on, RESPONSES)
        require_choice("MODEL.IGOAS.MASK_LOSS.RESIZE", self.resize, RESIZES)
        require_choice("MODEL.IGOAS.MASK_LOSS.STAGES", self.stages, STAGES)
        for branch in self.branches:
            require_choice("Each of MODEL.IGOAS.MASK_LOSS.BRANCHES", branch, BRANCHES)
        if self.on_both_stages and "suppression" not in self.branches:
            raise InputError(
                "MODEL.IGOAS.MASK_LOSS.STAGES both needs suppression in MODEL.IGOAS.MASK_LOSS.BRANCHES: the first "
                "attention module belongs to the suppression branch"
            )

    @classmethod
    def from_config(cls, cfg) -> "SuppressionLoss":
        return cls(**{key.lower(): value for key, value in cfg.MODEL.IGOAS.MASK_LOSS.items()})

    @property
    def on_both_stages(self) -> bool:
        """Whether the loss is used, and on both stages."""
        return self.stages == "both" and self.scale > 0 and len(self.branches) > 0

    def __call__(self, feature_maps: dict[str, list[Tensor]], visible: Tensor) -> dict[str, Tensor]:
        """Computes the loss of each chosen branch, without its weight.

        Args:
            feature_maps: {branch: [last feature map (B, C, H, W), further supervised maps ...]}.
            visible: 1 on kept pixels, 0 on occluded ones, shape (B, 1, h, w).

        Returns:
            {branch: scalar}; empty if the scale is 0.
        """
        if self.scale == 0:
            return {}
        losses = {}
        for branch in self.branches:
            supervised = feature_maps[branch] if self.stages == "both" else feature_maps[branch][:1]
            losses[branch] = sum(suppression_loss(each, visible, self.on, self.resize) for each in supervised)
        return losses


def identity_weights(losses: Tensor, kind: str | Sequence[float]) -> Tensor:
    """Computes the weights of the identity losses.

    "adaptive" weights w are the softmax of the losses L and are not detached (eq. 4 of the paper). With the weighted
    sum S = sum_j w_j L_j, the gradient is dS/dL_i = w_i (1 + L_i - S). It is negative for a loss below S - 1, so that
    training raises this loss. The method defines it so. "detached" weights have the same values, and the gradient w_i.

    Args:
        losses: shape (N,).
        kind: "adaptive", "detached", "mean" (1 / N), or N numbers, which are taken as they are.

    Returns:
        Shape (N,).

    Example:
        >>> identity_weights(torch.tensor([4.0, 2.0, 2.0]), (0.5, 1, 1))
        tensor([0.5000, 1.0000, 1.0000])
    """
    return ID_WEIGHTS[kind](losses) if isinstance(kind, str) else losses.new_tensor(kind)


def parse_identity_weights(value: str, count: int) -> str | tuple[float, ...]:
    """Returns MODEL.IGOAS.ID_WEIGHTS as identity_weights() takes it.

    Args:
        value: name in ID_WEIGHTS, or numbers with spaces or commas between.
        count: how many numbers there must be.

    Raises:
        InputError: the value is neither, or a number is negative or not finite.
    """
    if value in ID_WEIGHTS:
        return value
    try:
        weights = tuple(map(float, value.replace(",", " ").split()))
    except ValueError:
        weights = ()
    if len(weights) != count or not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        names = ", ".join(ID_WEIGHTS)
        raise InputError(
            f"MODEL.IGOAS.ID_WEIGHTS must be {names}, or {count} numbers that are not negative, such as "
            f'"0.5 1 1" (global, suppression, joint), got {value}'
        )
    return weights


def metric_losses(cfg) -> dict[str, tuple[float, Callable[[Tensor, Tensor], Tensor]]]:
    """Returns the metric losses in MODEL.LOSSES.NAME, which act beside the cross-entropy.

    Returns:
        {name of the loss in fast-reid's log: (scale, (embedding (B, D), targets (B,)) -> scalar)}.

    Raises:
        InputError: CrossEntropyLoss is missing, or a loss is unknown.
    """
    names = cfg.MODEL.LOSSES.NAME
    if "CrossEntropyLoss" not in names:
        raise InputError(f"IGOAS needs CrossEntropyLoss in MODEL.LOSSES.NAME, got {tuple(names)}")
    chosen = {}
    for name in names:
        require_choice("MODEL.LOSSES.NAME", name, ("CrossEntropyLoss", *METRIC_LOSSES))
        if name in METRIC_LOSSES:
            function, section, keys = METRIC_LOSSES[name]
            settings = cfg.MODEL.LOSSES[section]
            loss = functools.partial(function, **{key.lower(): settings[key] for key in keys})
            chosen[f"loss_{name.removesuffix('Loss').lower()}"] = settings.SCALE, loss
    return chosen
