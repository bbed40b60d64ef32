"""Activation maps: a model's feature maps, averaged over their channels (Fig. 8 and 9 of the paper)."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from igoas_plugin.modeling.compilation import uncompiled
from igoas_plugin.modeling.igoas import IGOAS


@torch.no_grad()
def activation_maps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Returns the activation maps of a model.

    Args:
        model: in evaluation mode, of any meta-architecture with a ``backbone`` that returns one feature map.
        images: (B, 3, H, W) in [0, 255].

    Returns:
        {name: (B, h, w)} on the CPU, in the order in which the model computes them. For IGOAS: the last feature map of
        the global branch, the input and output of each attention module of the suppression branch, and the last feature
        map of the stripe branch. For another model: "backbone".
    """
    with uncompiled() if getattr(model, "compiled", False) else nullcontext():
        shared = model.backbone(model.preprocess_image(images))
        if not isinstance(model, IGOAS):
            return {"backbone": channel_mean(shared)}
        maps = {"global": channel_mean(model.global_branch(shared)[0])}
        branch, hooks = model.suppression_branch, []
        for place in ("before", "after"):  # of the last stage

            def note(module, inputs, output, place=place):
                name = f"suppression, attention {place} the last stage"
                maps[f"{name}: in"], maps[f"{name}: out"] = channel_mean(inputs[0]), channel_mean(output)

            hooks.append(getattr(branch, f"attention_{place}").register_forward_hook(note))
        try:
            branch(shared)
        finally:
            for hook in hooks:
                hook.remove()
        if model.stripe_branch is not None:
            maps["stripe"] = channel_mean(model.stripe_branch(shared)[0])
        return maps


def channel_mean(feature_map: Tensor) -> Tensor:
    """Averages a feature map (B, C, h, w) over its channels and moves it to the CPU."""
    return feature_map.float().mean(1).cpu()
