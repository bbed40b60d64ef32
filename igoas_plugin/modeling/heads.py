import torch
import torch.nn.functional as F
from fastreid.config import configurable
from fastreid.layers import any_softmax, get_norm, pooling
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from torch import Tensor, nn

from igoas_plugin.core.errors import InputError, require_choice

POOL_LAYERS = [name for name in pooling.__all__ if name not in ("Identity", "Flatten")]  # these two pool nothing
NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")  # of the host's get_norm()
GROUPS = 32  # of its GN


class Reduction(nn.Module):
    """Linear, normalisation, ReLU: pooled features (B, C) -> embedding (B, D).

    Initialisation of the released code: linear kaiming normal (fan_out), scale of the norm N(1, 0.02), biases 0.

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
        return F.relu(self.norm(embedding[..., None, None])[..., 0, 0])  # the host's norms are for feature maps


class Classifier(nn.Module):
    """Identity logits of an embedding, with the host's classification layers (margin and scale).

    Linear has a bias; the margin layers compare normalised embeddings with normalised weights, as the host does.

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
        """Returns logits (B, K) with the margin of the target class, for the loss, and without, for the accuracy."""
        if self.bias is None:
            logits = F.linear(F.normalize(embedding), F.normalize(self.weight))
        else:
            logits = F.linear(embedding, self.weight, self.bias)
        return self.cls_layer(logits.clone(), targets), logits * self.cls_layer.s  # the layer edits its input


class BranchNeck(nn.Module):
    """Pooling, reduction and neck of one branch: feature map (B, C, H, W) -> embedding before and after the neck.

    Args:
        channels: C.
        pool_layer: one of POOL_LAYERS.
        embedding_dim: width of the embedding; 0: no reduction, it is C.
        norm: one of NORMS, for reduction and neck.
        with_bnneck: whether there is a neck; without one, both embeddings are the same.
    """

    def __init__(self, channels: int, pool_layer: str, embedding_dim: int, norm: str, with_bnneck: bool):
        super().__init__()
        require_choice("POOL_LAYER of a branch", pool_layer, POOL_LAYERS)
        self.pool = getattr(pooling, pool_layer)()
        self.reduction = Reduction(channels, embedding_dim, norm) if embedding_dim else nn.Identity()
        self.width = embedding_dim or channels
        self.bnneck = get_norm(norm, self.width, bias_freeze=True) if with_bnneck else nn.Identity()

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.reduction(self.pool(feature_map).flatten(1))
        return embedding, self.bnneck(embedding[..., None, None])[..., 0, 0]


@REID_HEADS_REGISTRY.register()
class IGOASHead(nn.Module):
    """From the branches' feature maps to three logits (training) or to the descriptor (evaluation).

    Runs in float32 under any autocast.

    Args:
        feat_dim: channels of the feature maps.
        embedding_dim: width of a branch's embedding; 0: no reduction.
        num_classes: identities.
        global_pool, suppression_pool: names in fastreid.layers.pooling.
        norm: name of the host's normalisation.
        with_bnneck: one more normalisation between embedding and classifiers.
        neck_feat: "before" or "after": which side of that neck the metric losses see.
        cls_layer, scale, margin: the host's classification layer.
        descriptor: "joint", "global" or "suppression": what is ranked.

    Raises:
        InputError: a name is unknown, or embedding_dim cannot be.
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
        require_choice("MODEL.IGOAS.DESCRIPTOR", descriptor, ("joint", "global", "suppression"))
        if embedding_dim < 0:
            raise InputError(f"MODEL.HEADS.EMBEDDING_DIM must be 0 (no reduction) or more, got {embedding_dim}")
        if norm == "GN" and (embedding_dim % GROUPS or embedding_dim == GROUPS):  # a group of one value is always 0
            raise InputError(
                f"MODEL.HEADS.NORM GN needs MODEL.HEADS.EMBEDDING_DIM {2 * GROUPS} or another multiple of {GROUPS}"
            )
        self.neck_feat = neck_feat
        self.described = ("global", "suppression") if descriptor == "joint" else (descriptor,)
        self.global_neck = BranchNeck(feat_dim, global_pool, embedding_dim, norm, with_bnneck)
        self.suppression_neck = BranchNeck(feat_dim, suppression_pool, embedding_dim, norm, with_bnneck)
        width = self.global_neck.width
        self.global_classifier = Classifier(width, num_classes, cls_layer, scale, margin)
        self.suppression_classifier = Classifier(width, num_classes, cls_layer, scale, margin)
        self.joint_classifier = Classifier(2 * width, num_classes, cls_layer, scale, margin)

    @classmethod
    def from_config(cls, cfg) -> dict:
        heads, igoas = cfg.MODEL.HEADS, cfg.MODEL.IGOAS
        return {
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "embedding_dim": heads.EMBEDDING_DIM,
            "num_classes": heads.NUM_CLASSES,
            "global_pool": igoas.GLOBAL.POOL_LAYER,
            "suppression_pool": igoas.SUPPRESSION.POOL_LAYER,
            "norm": heads.NORM,
            "with_bnneck": heads.WITH_BNNECK,
            "neck_feat": heads.NECK_FEAT,
            "cls_layer": heads.CLS_LAYER,
            "scale": heads.SCALE,
            "margin": heads.MARGIN,
            "descriptor": igoas.DESCRIPTOR,
        }

    def forward(self, global_map: Tensor | None, suppression_map: Tensor | None, targets: Tensor | None = None):
        """Heads of both branches.

        Args:
            global_map, suppression_map: last feature maps, (B, C, H, W) each; in evaluation that of a branch that
                is not in ``described`` is not looked at.
            targets: identities (B,), in training.

        Returns:
            In training {"global" | "suppression" | "joint": (logits with margin, logits)} and "features": the joint
            embedding (B, 2D) that the metric losses see. In evaluation the descriptor: each half L2-normalised, global
            first, (B, 2D), or one half, (B, D).
        """
        maps = {"global": global_map, "suppression": suppression_map}
        dtype, device = self.joint_classifier.weight.dtype, self.joint_classifier.weight.device
        with torch.autocast(device.type, enabled=False):  # float32, unless the whole model was converted
            before, after = {}, {}
            for half in self.described if not self.training else maps:
                before[half], after[half] = getattr(self, f"{half}_neck")(maps[half].to(dtype))
            if not self.training:
                return torch.cat([F.normalize(after[half], dim=1) for half in self.described], 1)
            after["joint"] = torch.cat([after["global"], after["suppression"]], 1)
            seen = before if self.neck_feat == "before" else after
            return {
                "global": self.global_classifier(after["global"], targets),
                "suppression": self.suppression_classifier(after["suppression"], targets),
                "joint": self.joint_classifier(after["joint"], targets),
                "features": torch.cat([seen["global"], seen["suppression"]], 1),
            }
