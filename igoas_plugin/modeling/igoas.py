"""IGOAS: the wiring of trunk, branches, heads and losses."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from fastreid.config import configurable
from fastreid.modeling.backbones import BACKBONE_REGISTRY, build_backbone
from fastreid.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead, build_heads
from fastreid.modeling.losses import cross_entropy_loss, log_accuracy
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import Tensor, nn

from igoas_plugin.config import image_size
from igoas_plugin.core.errors import InputError, require_choice
from igoas_plugin.core.extensions import constructing
from igoas_plugin.core.run_progress import current_storage, ensured_storage
from igoas_plugin.fastreid_fixes.freezing import FreezePlan
from igoas_plugin.fastreid_fixes.preprocessing import for_precise_bn, preprocess_image
from igoas_plugin.occlusion import build_occlusion
from igoas_plugin.occlusion.block import all_visible, occlude, seed_of
from igoas_plugin.occlusion.rectangle_blocks import DropStripe

from .backbones import split_backbone
from .branch import Branch
from .compilation import uncompiled
from .losses import BRANCHES, SuppressionLoss, identity_weights, metric_losses, parse_identity_weights
from .unseen_occlusions import UnseenOcclusions

IDENTITY_LOSSES = (*BRANCHES, "joint")
IMAGES = ("paired", "both")


@META_ARCH_REGISTRY.register()
class IGOAS(nn.Module):
    """Incremental Generative Occlusion Adversarial Suppression network (Zhao et al., IEEE TIP 30:4212-4224, 2021).

    The clean and the occluded batch pass the shared trunk together. The global branch sees the clean half. The
    suppression branch sees the occluded half, and learns not to respond inside the occlusion. With `images` "both",
    which is not in the paper, each branch sees both halves, as in an evaluation both see the same images.

    Args:
        backbone: the shared trunk, images -> feature map. fast-reid's name, so that its config keys and its optimiser
            find it.
        global_branch, suppression_branch: Branch each.
        heads: IGOASHead, or a head with its interface. A head with an attribute ``descriptor_branches`` names the
            branches that an evaluation runs.
        occlusion: called as ``occluded, visible = occlusion(images)``. If it has a method ``drop``, that acts on the
            last feature map of the suppression branch: ``feature_map, visible = occlusion.drop(feature_map)``.
        pixel_mean, pixel_std: of the normalisation, three values each, in [0, 255].
        cross_entropy: "eps", "alpha" and "scale" of fast-reid's cross-entropy.
        metric_losses: losses on the joint embedding, {name: (scale, (embedding, targets) -> scalar)}.
        identity_weights: name or three numbers, see parse_identity_weights().
        suppression_loss: with its branches and stages.
        images: "paired" (paper) or "both".
        stripe_branch: third Branch, which sees what the global branch sees, with a stripe of the feature map dropped.
        drop_stripe: drops it, feature map -> feature map.
        stripe_scale: weight of its identity loss, not negative.
        compiled: whether a training step runs trunk and branches by torch.compile; an evaluation never does.

    Raises:
        InputError: a value is unknown or negative, or `suppression_loss` is on both stages and the suppression branch
            has no attention.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        global_branch: nn.Module,
        suppression_branch: nn.Module,
        heads: nn.Module,
        occlusion: nn.Module,
        pixel_mean: list[float],
        pixel_std: list[float],
        cross_entropy: dict[str, float],
        metric_losses: dict[str, tuple[float, Callable[[Tensor, Tensor], Tensor]]],
        identity_weights: str,
        suppression_loss: SuppressionLoss,
        images: str = "paired",
        stripe_branch: nn.Module | None = None,
        drop_stripe: nn.Module | None = None,
        stripe_scale: float = 1 / 3,
        compiled: bool = False,
    ):
        super().__init__()
        require_choice("MODEL.IGOAS.IMAGES", images, IMAGES)
        if stripe_scale < 0:
            raise InputError(f"MODEL.IGOAS.STRIPE.SCALE must not be negative, got {stripe_scale}")
        if suppression_loss.on_both_stages and not suppression_branch.has_attention:
            raise InputError(
                "MODEL.IGOAS.MASK_LOSS.STAGES both needs MODEL.IGOAS.SUPPRESSION.ATTENTION True: it supervises the "
                "first attention module too"
            )
        self.backbone = backbone
        self.global_branch = global_branch
        self.suppression_branch = suppression_branch
        self.stripe_branch, self.drop_stripe, self.stripe_scale = stripe_branch, drop_stripe, stripe_scale
        self.heads = heads
        self.occlusion = occlusion
        self.cross_entropy = cross_entropy
        self.metric_losses = metric_losses
        self.identity_weights = parse_identity_weights(identity_weights, len(IDENTITY_LOSSES))
        self.suppression_loss = suppression_loss
        self.images = images
        self.unseen_occlusions = UnseenOcclusions()
        self.compiled = compiled
        if compiled:  # in place, so that parameters keep their names; occlusion and losses stay uncompiled
            for part in filter(None, (backbone, global_branch, suppression_branch, stripe_branch)):
                part.compile()
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(1, -1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg) -> dict:
        keys, ce = cfg.MODEL.IGOAS, cfg.MODEL.LOSSES.CE
        with constructing("MODEL.BACKBONE.NAME", BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME), "cfg"):
            backbone = build_backbone(cfg)
        split = split_backbone(backbone, image_size(cfg, "TRAIN"), cfg.MODEL.BACKBONE.NORM, keys.STEM)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.BACKBONE.FEAT_DIM = split.channels  # fast-reid's default is ResNet-50's, whatever the depth
        stripe = {}
        if keys.STRIPE.ENABLED:
            stripe = {
                "stripe_branch": Branch(split, attention=False, extra_block=keys.EXTRA_BLOCK),
                "drop_stripe": DropStripe(seed_of(cfg)),
                "stripe_scale": keys.STRIPE.SCALE,
            }
        return {
            "backbone": split.trunk,
            "global_branch": Branch(split, attention=False, extra_block=keys.EXTRA_BLOCK),
            "suppression_branch": Branch(split, attention=keys.SUPPRESSION.ATTENTION, extra_block=keys.EXTRA_BLOCK),
            "heads": build_two_branch_heads(cfg),
            "occlusion": build_occlusion(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "cross_entropy": {"eps": ce.EPSILON, "alpha": ce.ALPHA, "scale": ce.SCALE},
            "metric_losses": metric_losses(cfg),
            "identity_weights": keys.ID_WEIGHTS,
            "suppression_loss": SuppressionLoss.from_config(cfg),
            "images": keys.IMAGES,
            **stripe,
            "compiled": keys.COMPILE,
        }

    @classmethod
    def freeze_plan(cls, cfg) -> FreezePlan:
        """Returns the layers that the released code freezes at first, for MODEL.IGOAS.FREEZE_EPOCHS epochs.

        Extra blocks, attention, reductions and the classifiers of the branches are trained from the start.

        Raises:
            InputError: MODEL.IGOAS.FREEZE_EPOCHS is negative.
        """
        if cfg.MODEL.IGOAS.FREEZE_EPOCHS < 0:
            raise InputError(f"MODEL.IGOAS.FREEZE_EPOCHS must not be negative, got {cfg.MODEL.IGOAS.FREEZE_EPOCHS}")
        layers = [r"backbone\.", r"global_branch\.last_stage\.", r"suppression_branch\.last_stage\."]
        if cfg.MODEL.IGOAS.STRIPE.ENABLED:
            layers.append(r"stripe_branch\.last_stage\.")
        if cfg.MODEL.IGOAS.FREEZE_JOINT:
            layers.append(r"heads\.joint_classifier\.")
        return FreezePlan(tuple(layers), epochs=cfg.MODEL.IGOAS.FREEZE_EPOCHS)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    preprocess_image = preprocess_image

    def forward(self, batched_inputs: dict | Tensor) -> dict[str, Tensor] | Tensor:
        """Returns the losses of a training step, or the descriptors of an evaluation.

        Args:
            batched_inputs: "images" (B, 3, H, W) in [0, 255] and in training "targets" (B,); not modified. PreciseBN of
                fast-reid gives negative targets without gradients: all branches then see clean images.

        Returns:
            In training {name: weighted loss}, whose sum is the total loss; in evaluation descriptors (B, D).
        """
        images = self.preprocess_image(batched_inputs)
        if not self.training:
            return self.descriptors(images)

        targets, occlusion, drop_stripe = batched_inputs["targets"], self.occlusion, self.drop_stripe
        if for_precise_bn(targets):
            targets, occlusion, drop_stripe = torch.zeros_like(targets), keep_clean, nn.Identity()
        occluded, visible = occlude(occlusion, images)
        shared = self.backbone(torch.cat([images, occluded]))
        if self.images == "both":
            global_input = suppression_input = shared
            targets, visible = targets.repeat(2), torch.cat([all_visible(images), visible])
        else:
            global_input, suppression_input = shared.chunk(2)
        global_map, _ = self.global_branch(global_input)
        suppression_map, attended = self.suppression_branch(suppression_input)
        if hasattr(occlusion, "drop"):
            suppression_map, visible = occlusion.drop(suppression_map)
        if self.stripe_branch is None:
            outputs = self.heads(global_map, suppression_map, targets)
        else:
            stripe_map, _ = self.stripe_branch(drop_stripe(global_input))
            outputs = self.heads(global_map, suppression_map, targets, stripe_map)
        feature_maps = {"global": [global_map], "suppression": [suppression_map, attended]}
        with ensured_storage(), torch.autocast(images.device.type, enabled=False):
            return self.losses(outputs, targets, feature_maps, visible)

    def descriptors(self, images: Tensor) -> Tensor:
        """Returns the descriptors of normalised images, (B, 3, H, W) -> (B, D); runs only the branches in use."""
        with uncompiled() if self.compiled else nullcontext():
            shared = self.backbone(images)
            branches = getattr(self.heads, "descriptor_branches", BRANCHES)
            feature_maps = {branch: getattr(self, f"{branch}_branch")(shared)[0] for branch in branches}
        stripe = {"stripe_map": feature_maps["stripe"]} if "stripe" in feature_maps else {}
        return self.heads(feature_maps.get("global"), feature_maps.get("suppression"), **stripe)

    def losses(
        self, outputs: dict, targets: Tensor, feature_maps: dict[str, list[Tensor]], visible: Tensor
    ) -> dict[str, Tensor]:
        """Returns the weighted losses; logs the losses without weights, and the weights of the identity losses."""
        ce = self.cross_entropy
        identity = torch.stack(
            [cross_entropy_loss(outputs[name][0], targets, ce["eps"], ce["alpha"]) for name in IDENTITY_LOSSES]
        )
        weights = identity_weights(identity, self.identity_weights)
        suppression = {
            f"suppression_loss_{branch}": loss for branch, loss in self.suppression_loss(feature_maps, visible).items()
        }
        if suppression:
            supervised = feature_maps[self.suppression_loss.branches[0]][0]
            self.unseen_occlusions.add(visible, supervised, self.suppression_loss.resize)
        metric = {name: loss(outputs["features"], targets) for name, (_, loss) in self.metric_losses.items()}

        weighted = ce["scale"] * weights * identity
        losses = {f"loss_identity_{name}": loss for name, loss in zip(IDENTITY_LOSSES, weighted, strict=True)}
        logged = {f"raw_loss_{name}": loss for name, loss in zip(IDENTITY_LOSSES, identity, strict=True)}
        if "stripe" in outputs:
            logged["raw_loss_stripe"] = cross_entropy_loss(outputs["stripe"][0], targets, ce["eps"], ce["alpha"])
            losses["loss_identity_stripe"] = ce["scale"] * self.stripe_scale * logged["raw_loss_stripe"]
        losses.update({name: self.suppression_loss.scale * loss for name, loss in suppression.items()})
        losses.update({name: self.metric_losses[name][0] * loss for name, loss in metric.items()})

        log_accuracy(outputs["joint"][1].detach(), targets)
        logged.update({f"raw_{name}": loss for name, loss in {**suppression, **metric}.items()})
        logged.update({f"loss_weight_{name}": weight for name, weight in zip(IDENTITY_LOSSES, weights, strict=True)})
        current_storage().put_scalars(**logged)
        return losses


def keep_clean(images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the images as they are and a mask that is 1 everywhere: the occlusion of PreciseBN."""
    return images, all_visible(images)


def build_two_branch_heads(cfg) -> nn.Module:
    """Builds MODEL.HEADS.NAME; raises InputError if it is a head of fast-reid, which takes one feature map."""
    with constructing("MODEL.HEADS.NAME", REID_HEADS_REGISTRY.get(cfg.MODEL.HEADS.NAME), "cfg"):
        heads = build_heads(cfg)
    if isinstance(heads, EmbeddingHead):  # in evaluation it would take the second feature map for targets
        raise InputError(
            f"MODEL.HEADS.NAME {cfg.MODEL.HEADS.NAME} takes one feature map, and IGOAS gives two: set it to IGOASHead"
        )
    return heads
