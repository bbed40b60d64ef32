"""Heads of IGOAS: pooling, reduction, neck and classifier of each branch, and the joint classifier."""

import torch
import torch.nn.functional as F
from fastreid.config import configurable
from fastreid.layers import any_softmax, get_norm, pooling
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from torch import Tensor, nn

from igoas_plugin.core.errors import InputError, require_choice

from .losses import BRANCHES

POOL_LAYERS = [name for name in pooling.__all__ if name not in ("Identity", "Flatten")]  # these two do not pool
NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")  # of fast-reid's get_norm()
GROUPS = 32  # of its GN
STRIPE = "stripe"
# Branches whose embeddings are ranked, by MODEL.IGOAS.DESCRIPTOR
DESCRIPTORS = {
    "joint": BRANCHES,
    "global": ("global",),
    "suppression": ("suppression",),
    STRIPE: (STRIPE,),
    "all": (*BRANCHES, STRIPE),
}


class Reduction(nn.Module):
    """Linear layer, normalisation and ReLU: pooled features (B, C) -> embedding (B, D).

    Initialised as in the released code: linear layer kaiming normal (fan_out), scale of the norm N(1, 0.02), biases 0.

    Args:
        channels: C.
        embedding_dim: D.
        norm: one of NORMS.
    """

    def __init__(self, channels: int, embedding_dim: int, norm: str):
        super().__init__()
        self.linear = nn.Linear(channels, embedding_dim)
        self.norm = get_norm(norm, embedding_dim)
        nn.init.kaiming_normal_(self.linear.weight, mode="fan_out")
        nn.init.zeros_(self.linear.bias)
        nn.init.normal_(self.norm.weight, 1.0, 0.02)
        nn.init.zeros_(self.norm.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        embedding = self.linear(pooled)
        return F.relu(self.norm(embedding[..., None, None])[..., 0, 0])  # fast-reid's norms take feature maps


class Classifier(nn.Module):
    """Identity logits of an embedding, by a classification layer of fast-reid (margin and scale).

    Linear has a bias. The margin layers compare normalised embeddings with normalised weights, as fast-reid does.

    Args:
        embedding_dim: D.
        num_classes: K.
        cls_layer: name in fastreid.layers.any_softmax.
        scale, margin: of that layer.
    """

    def __init__(self, embedding_dim: int, num_classes: int, cls_layer: str, scale: float, margin: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if cls_layer == "Linear" else None
        self.cls_layer = getattr(any_softmax, cls_layer)(num_classes, scale, margin)
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, embedding: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns two logits (B, K): with the margin of the target class for the loss, without it for the accuracy."""
        if self.bias is None:
            logits = F.linear(F.normalize(embedding), F.normalize(self.weight))
        else:
            logits = F.linear(embedding, self.weight, self.bias)
        return self.cls_layer(logits.clone(), targets), logits * self.cls_layer.s  # the layer changes its input


class BranchNeck(nn.Module):
    """Pooling, reduction and neck of one branch: feature map (B, C, H, W) -> embeddings before and after the neck.

    Args:
        channels: C.
        pool_layer: one of POOL_LAYERS.
        embedding_dim: width of the embedding; 0: there is no reduction and the width is C.
        norm: one of NORMS, for reduction and neck.
        with_bnneck: whether there is a neck; without a neck both embeddings are equal.
    """

    def __init__(self, channels: int, pool_layer: str, embedding_dim: int, norm: str, with_bnneck: bool):
        super().__init__()
        self.pool = getattr(pooling, pool_layer)()
        self.reduction = Reduction(channels, embedding_dim, norm) if embedding_dim else nn.Identity()
        self.width = embedding_dim or channels
        self.bnneck = get_norm(norm, self.width, bias_freeze=True) if with_bnneck else nn.Identity()

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the embeddings before and after the neck, (B, D) each."""
        embedding = self.reduction(self.pool(feature_map).flatten(1))
        return embedding, self.bnneck(embedding[..., None, None])[..., 0, 0]


@REID_HEADS_REGISTRY.register()
class IGOASHead(nn.Module):
    """Heads of the branches: feature maps -> logits in training, the descriptor in evaluation.

    They compute in float32 under any autocast.

    Args:
        feat_dim: channels of the feature maps.
        embedding_dim: width of the embedding of a branch; 0: no reduction.
        num_classes: number of identities.
        global_pool, suppression_pool: names in fastreid.layers.pooling.
        stripe_pool: the same for the stripe branch; None: there is none.
        norm: one of NORMS.
        with_bnneck: whether one more normalisation stands between embedding and classifiers.
        neck_feat: side of that neck that the metric losses see, "before" or "after".
        cls_layer, scale, margin: classification layer of fast-reid.
        descriptor: what is ranked, a name in DESCRIPTORS.

    Raises:
        InputError: a name is unknown, embedding_dim is negative or does not fit the norm, or the descriptor needs the
            stripe branch and there is none.
    """

    @configurable
    def __init__(
        self,
        *,
        feat_dim: int,
        embedding_dim: int,
        num_classes: int,
        global_pool: str,
        suppression_pool: str,
        stripe_pool: str | None = None,
        norm: str,
        with_bnneck: bool,
        neck_feat: str,
        cls_layer: str,
        scale: float,
        margin: float,
        descriptor: str,
    ):
        super().__init__()
        require_choice("MODEL.HEADS.NECK_FEAT", neck_feat, ("before", "after"))
        require_choice("MODEL.HEADS.NORM", norm, NORMS)
        require_choice("MODEL.HEADS.CLS_LAYER", cls_layer, any_softmax.__all__)
        require_choice("MODEL.IGOAS.DESCRIPTOR", descriptor, DESCRIPTORS)
        for branch, pool in (("GLOBAL", global_pool), ("SUPPRESSION", suppression_pool), ("STRIPE", stripe_pool)):
            if pool is not None:
                require_choice(f"MODEL.IGOAS.{branch}.POOL_LAYER", pool, POOL_LAYERS)
        if stripe_pool is None and STRIPE in DESCRIPTORS[descriptor]:
            raise InputError(f"MODEL.IGOAS.DESCRIPTOR {descriptor} needs MODEL.IGOAS.STRIPE.ENABLED True")
        if embedding_dim < 0:
            raise InputError(f"MODEL.HEADS.EMBEDDING_DIM must be 0 (no reduction) or more, got {embedding_dim}")
        if norm == "GN" and (embedding_dim % GROUPS or embedding_dim == GROUPS):  # a group of one value is always 0
            raise InputError(
                f"MODEL.HEADS.NORM GN needs MODEL.HEADS.EMBEDDING_DIM {2 * GROUPS} or a larger multiple of {GROUPS}, "
                f"got {embedding_dim}"
            )
        self.neck_feat = neck_feat
        self.descriptor_branches = DESCRIPTORS[descriptor]
        self.global_neck = BranchNeck(feat_dim, global_pool, embedding_dim, norm, with_bnneck)
        self.suppression_neck = BranchNeck(feat_dim, suppression_pool, embedding_dim, norm, with_bnneck)
        width = self.global_neck.width
        self.global_classifier = Classifier(width, num_classes, cls_layer, scale, margin)
        self.suppression_classifier = Classifier(width, num_classes, cls_layer, scale, margin)
        self.joint_classifier = Classifier(2 * width, num_classes, cls_layer, scale, margin)
        if stripe_pool is not None:
            self.stripe_neck = BranchNeck(feat_dim, stripe_pool, embedding_dim, norm, with_bnneck)
            self.stripe_classifier = Classifier(width, num_classes, cls_layer, scale, margin)

    @classmethod
    def from_config(cls, cfg) -> dict:
        heads, igoas = cfg.MODEL.HEADS, cfg.MODEL.IGOAS
        return {
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "embedding_dim": heads.EMBEDDING_DIM,
            "num_classes": heads.NUM_CLASSES,
            "global_pool": igoas.GLOBAL.POOL_LAYER,
            "suppression_pool": igoas.SUPPRESSION.POOL_LAYER,
            "stripe_pool": igoas.STRIPE.POOL_LAYER if igoas.STRIPE.ENABLED else None,
            "norm": heads.NORM,
            "with_bnneck": heads.WITH_BNNECK,
            "neck_feat": heads.NECK_FEAT,
            "cls_layer": heads.CLS_LAYER,
            "scale": heads.SCALE,
            "margin": heads.MARGIN,
            "descriptor": igoas.DESCRIPTOR,
        }

    def forward(
        self,
        global_map: Tensor | None,
        suppression_map: Tensor | None,
        targets: Tensor | None = None,
        stripe_map: Tensor | None = None,
    ) -> dict | Tensor:
        """Returns logits and embedding of a training step, or the descriptors of an evaluation.

        Args:
            global_map, suppression_map: last feature maps, (B, C, H, W) each. An evaluation reads only those of
                ``descriptor_branches``.
            targets: identities (B,), in training.
            stripe_map: last feature map of the stripe branch, if there is one.

        Returns:
            In training {"global" | "suppression" | "joint" | "stripe": (logits with margin, logits), "features": joint
            embedding (B, 2D) for the metric losses}; "stripe" only if there is a stripe map. In evaluation the
            descriptor: the embeddings of ``descriptor_branches``, each L2-normalised, (B, number of branches * D).
        """
        feature_maps = {"global": global_map, "suppression": suppression_map, STRIPE: stripe_map}
        weight = self.joint_classifier.weight
        with torch.autocast(weight.device.type, enabled=False):
            before, after = {}, {}
            trained = BRANCHES if stripe_map is None else (*BRANCHES, STRIPE)
            for branch in trained if self.training else self.descriptor_branches:
                neck = getattr(self, f"{branch}_neck")
                before[branch], after[branch] = neck(feature_maps[branch].to(weight.dtype))
            if not self.training:
                return torch.cat([F.normalize(after[branch], dim=1) for branch in self.descriptor_branches], 1)
            after["joint"] = torch.cat([after["global"], after["suppression"]], 1)
            seen = before if self.neck_feat == "before" else after
            logits = {name: getattr(self, f"{name}_classifier")(after[name], targets) for name in after}
            return {**logits, "features": torch.cat([seen["global"], seen["suppression"]], 1)}
