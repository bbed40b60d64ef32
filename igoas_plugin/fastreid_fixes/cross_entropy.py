"""Cross-entropy loss that does not synchronise with the GPU."""

import torch
import torch.nn.functional as F
from fastreid.modeling.losses import cross_entroy_loss as original
from torch import Tensor

from .fix import fix, replace_everywhere


def cross_entropy_loss(pred_class_outputs: Tensor, gt_classes: Tensor, eps: float, alpha: float = 0.2) -> Tensor:
    """Replaces fast-reid's function of this name: cross-entropy with label smoothing.

    Args:
        pred_class_outputs: logits (B, K).
        gt_classes: identities (B,).
        eps: probability that the other classes share. If negative, it is alpha times the predicted probability of the
            sample's own class.
        alpha: see eps.

    Returns:
        Mean over the samples whose loss is not 0, a scalar.
    """
    others = pred_class_outputs.size(1) - 1
    log_probs, index = F.log_softmax(pred_class_outputs, dim=1), gt_classes.detach().unsqueeze(1)
    with torch.no_grad():
        smooth = torch.full_like(log_probs[:, :1], eps) if eps >= 0 else alpha * log_probs.exp().gather(1, index)
        targets = (smooth / others).expand_as(log_probs).scatter(1, index, 1 - smooth)
    losses = (-targets * log_probs).sum(dim=1)
    return losses.sum() / losses.detach().count_nonzero().clamp(min=1)


@fix
def count_losses_on_the_device() -> None:
    """Each cross-entropy loss makes the CPU wait for the GPU.

    Cause: fast-reid counts the samples whose loss is not 0 on the CPU. The value of the loss is the same.
    """
    replace_everywhere(original.cross_entropy_loss, cross_entropy_loss)
