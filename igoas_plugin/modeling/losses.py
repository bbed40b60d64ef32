import functools

import torch
import torch.nn.functional as F
from fastreid.modeling import losses as host
from torch import Tensor

from igoas_plugin.core.errors import InputError, require_choice

RESPONSES = ("channel_mean", "feature_map")
# How the visibility mask is brought to the size of a feature map
RESIZES = {
    "bilinear": functools.partial(F.interpolate, mode="bilinear", align_corners=True),
    "area": F.adaptive_avg_pool2d,
}
ID_WEIGHTS = ("adaptive", "mean")
# Host losses beside the cross-entropy: name in MODEL.LOSSES.NAME -> function, its config node, its arguments there
METRIC_LOSSES = {
    "TripletLoss": (host.triplet_loss, "TRI", ("MARGIN", "NORM_FEAT", "HARD_MINING")),
    "CircleLoss": (host.pairwise_circleloss, "CIRCLE", ("MARGIN", "GAMMA")),
    "Cosface": (host.pairwise_cosface, "COSFACE", ("MARGIN", "GAMMA")),
}


def suppression_loss(
    feature_map: Tensor, visible: Tensor, on: str = "channel_mean", resize: str = "bilinear"
) -> Tensor:
    r"""Mean square of the response inside the generated occlusion.

    .. math:: L = \frac{1}{|r|} \sum [r - v \cdot r]^2

    with r the channel mean of the feature map, or the feature map itself, and the gradient through both terms.
    Source: IGOAS (TIP 2021), eq. 1 (feature map); the released code (channel mean).

    Args:
        feature_map: shape (B, C, H, W).
        visible: 1 on kept pixels, 0 on occluded ones, shape (B, 1, h, w); resized to (H, W).
        on: "channel_mean" or "feature_map".
        resize: "bilinear" (corners aligned, as released: a cell sees the four pixels around one point of the image, so
            that on a coarse map most occlusions are seen by none) or "area" (a cell sees the visible share of its
            pixels).

    Returns:
        Scalar, not negative, float32 (float64 for a float64 feature map).

    Raises:
        InputError: `on` or `resize` is unknown.

    Example:
        >>> suppression_loss(torch.tensor([[[[2.0, 4.0]]]]), visible=torch.tensor([[[[1.0, 0.0]]]]))
        tensor(8.)
    """
    require_choice("MODEL.IGOAS.MASK_LOSS.ON", on, RESPONSES)
    require_choice("MODEL.IGOAS.MASK_LOSS.RESIZE", resize, RESIZES)
    response = feature_map if feature_map.dtype == torch.float64 else feature_map.float()
    if on == "channel_mean":
        response = response.mean(1, keepdim=True)
    visible = RESIZES[resize](visible.to(response.dtype), response.shape[2:])
    return F.mse_loss(response, response * visible)


def identity_weights(losses: Tensor, kind: str) -> Tensor:
    """Weights of the identity losses, which sum to 1; not detached (eq. 4 of the paper and the released code).

    With "adaptive", w the softmax of the losses and S = sum_j w_j L_j: dS/dL_i = w_i (1 + L_i - S), negative for a loss
    below S - 1, which is then pushed up. That is the method.

    Args:
        losses: shape (N,).
        kind: "adaptive" (softmax of the losses) or "mean".

    Raises:
        InputError: the kind is unknown.
    """
    require_choice("MODEL.IGOAS.ID_WEIGHTS", kind, ID_WEIGHTS)
    return losses.softmax(0) if kind == "adaptive" else torch.full_like(losses, 1 / len(losses))


def metric_losses(cfg) -> dict:
    """The host losses beside the cross-entropy that MODEL.LOSSES.NAME asks for.

    Returns:
        {the host's name of the loss: (its scale, (features (B, D), targets (B,)) -> scalar)}.

    Raises:
        InputError: CrossEntropyLoss is not asked for, or a loss is unknown.
    """
    names = cfg.MODEL.LOSSES.NAME
    if "CrossEntropyLoss" not in names:
        raise InputError(f"IGOAS needs CrossEntropyLoss in MODEL.LOSSES.NAME, got {tuple(names)}")
    chosen = {}
    for name in names:
        if name == "CrossEntropyLoss":
            continue
        require_choice("MODEL.LOSSES.NAME", name, ("CrossEntropyLoss", *METRIC_LOSSES))
        function, node, keys = METRIC_LOSSES[name]
        settings = cfg.MODEL.LOSSES[node]
        loss = functools.partial(function, **{key.lower(): settings[key] for key in keys})
        chosen[f"loss_{name.removesuffix('Loss').lower()}"] = settings.SCALE, loss
    return chosen
