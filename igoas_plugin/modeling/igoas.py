from contextlib import nullcontext

import torch
from fastreid.config import configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import EmbeddingHead, build_heads
from fastreid.modeling.losses import cross_entropy_loss, log_accuracy
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import Tensor, nn

from igoas_plugin.core.errors import InputError, require_choice
from igoas_plugin.core.run_progress import current_storage, ensured_storage
from igoas_plugin.fastreid_fixes.freezing import FreezePlan
from igoas_plugin.fastreid_fixes.preprocessing import for_precise_bn, preprocess_image
from igoas_plugin.occlusion import build_occlusion

from .backbones import split_backbone
from .branch import Branch
from .compilation import uncompiled
from .losses import ID_WEIGHTS, RESIZES, RESPONSES, identity_weights, metric_losses, suppression_loss

IDENTITY_LOSSES = ("global", "suppression", "joint")
MASK_LOSS_KEYS = ("SCALE", "ON", "RESIZE", "BRANCHES", "STAGES")  # of MODEL.IGOAS.MASK_LOSS


@META_ARCH_REGISTRY.register()
class IGOAS(nn.Module):
    """Incremental Generative Occlusion Adversarial Suppression network (Zhao et al., IEEE TIP 30:4212-4224, 2021).

    A clean and an occluded form of the batch pass a shared trunk once. The global branch sees the clean half, the
    suppression branch the occluded one, and learns not to respond where the occlusion is.

    Args:
        backbone: the shared trunk, images -> feature map. It has the host's name, so that the host's keys reach it.
        global_branch, suppression_branch: Branch each.
        heads: IGOASHead, or one with its interface; in evaluation only the branches in its ``described`` are run, where
            it has that attribute.
        occlusion: ``occluded, visible = occlusion(images)``; its method ``drop``, where it has one, acts on the
            suppression branch's last feature map: ``feature_map, visible = occlusion.drop(feature_map)``.
        pixel_mean, pixel_std: of the normalisation, three values each, in [0, 255].
        cross_entropy: "eps", "alpha" and "scale" of the host's cross-entropy.
        metric_losses: the other losses, on the joint embedding: {name: (scale, (features, targets) -> scalar)}.
        identity_weights: "adaptive" or "mean".
        mask_loss: of the suppression loss, MASK_LOSS_KEYS in lower case.
        compiled: a training step runs trunk and branches by torch.compile; an evaluation does not.

    Raises:
        InputError: by from_config(): a value is unknown, leaves its range or does not go with the others.
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
        cross_entropy: dict,
        metric_losses: dict,
        identity_weights: str,
        mask_loss: dict,
        compiled: bool = False,
    ):
        super().__init__()
        self.backbone = backbone
        self.global_branch = global_branch
        self.suppression_branch = suppression_branch
        self.heads = heads
        self.occlusion = occlusion
        self.cross_entropy = cross_entropy
        self.metric_losses = metric_losses
        self.identity_weights = identity_weights
        self.mask_loss = mask_loss
        self.compiled = compiled
        if compiled:  # in place, so that parameters keep their names; occlusion and losses stay as they are
            for part in (backbone, global_branch, suppression_branch):
                part.compile()
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(1, -1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg) -> dict:
        keys, ce, mask = cfg.MODEL.IGOAS, cfg.MODEL.LOSSES.CE, cfg.MODEL.IGOAS.MASK_LOSS
        split = split_backbone(build_backbone(cfg), cfg.INPUT.SIZE_TRAIN, cfg.MODEL.BACKBONE.NORM, keys.STEM)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.BACKBONE.FEAT_DIM = split.channels  # the host's default is ResNet-50's, whatever the depth
        attention = keys.SUPPRESSION.ATTENTION
        check_mask_loss(mask, attention)
        require_choice("MODEL.IGOAS.ID_WEIGHTS", keys.ID_WEIGHTS, ID_WEIGHTS)
        return {
            "backbone": split.trunk,
            "global_branch": Branch(split, attention=False, extra_block=keys.EXTRA_BLOCK),
            "suppression_branch": Branch(split, attention=attention, extra_block=keys.EXTRA_BLOCK),
            "heads": build_two_branch_heads(cfg),
            "occlusion": build_occlusion(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "cross_entropy": {"eps": ce.EPSILON, "alpha": ce.ALPHA, "scale": ce.SCALE},
            "metric_losses": metric_losses(cfg),
            "identity_weights": keys.ID_WEIGHTS,
            "mask_loss": {key.lower(): mask[key] for key in MASK_LOSS_KEYS},
            "compiled": keys.COMPILE,
        }

    @classmethod
    def freeze_plan(cls, cfg) -> FreezePlan:
        """What the released code freezes at the start: all but extra blocks, attention, reductions, two classifiers.

        Raises:
            InputError: MODEL.IGOAS.FREEZE_EPOCHS is negative.
        """
        if cfg.MODEL.IGOAS.FREEZE_EPOCHS < 0:
            raise InputError(f"MODEL.IGOAS.FREEZE_EPOCHS must not be negative, got {cfg.MODEL.IGOAS.FREEZE_EPOCHS}")
        layers = [r"backbone\.", r"global_branch\.last_stage\.", r"suppression_branch\.last_stage\."]
        if cfg.MODEL.IGOAS.FREEZE_JOINT:
            layers.append(r"heads\.joint_classifier\.")
        return FreezePlan(tuple(layers), epochs=cfg.MODEL.IGOAS.FREEZE_EPOCHS)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    preprocess_image = preprocess_image

    def forward(self, batched_inputs: dict | Tensor):
        """The host's interface.

        Args:
            batched_inputs: "images" (B, 3, H, W) in [0, 255], in training also "targets" (B,); not modified. Negative
                targets and no gradients (the host's PreciseBN) mean: no occlusion, clean images through both branches.

        Returns:
            In training {name: weighted loss}, whose sum is the total; in evaluation the descriptors (B, D).
        """
        images = self.preprocess_image(batched_inputs)
        if not self.training:
            with uncompiled() if self.compiled else nullcontext():
                shared, halves = self.backbone(images), getattr(self.heads, "described", ("global", "suppression"))
                maps = {half: getattr(self, f"{half}_branch")(shared)[0] for half in halves}
            return self.heads(maps.get("global"), maps.get("suppression"))

        targets, drop = batched_inputs["targets"], getattr(self.occlusion, "drop", None)
        if for_precise_bn(targets):
            targets, drop = torch.zeros_like(targets), None
            occluded, visible = images, images.new_ones(len(images), 1, *images.shape[2:])
        else:
            occluded, visible = self.occlusion(images)
        with ensured_storage():
            clean_shared, occluded_shared = self.backbone(torch.cat([images, occluded])).chunk(2)
            global_map, _ = self.global_branch(clean_shared)
            suppression_map, attended = self.suppression_branch(occluded_shared)
            if drop is not None:
                suppression_map, visible = drop(suppression_map)
            outputs = self.heads(global_map, suppression_map, targets)
            with torch.autocast(images.device.type, enabled=False):
                maps = {"global": [global_map], "suppression": [suppression_map, attended]}
                return self.losses(outputs, targets, maps, visible)

    def losses(self, outputs: dict, targets: Tensor, maps: dict[str, list[Tensor]], visible: Tensor) -> dict:
        """Weighted losses; the raw ones and the weights of the identity losses go to the event storage."""
        ce, features = self.cross_entropy, outputs["features"]
        identity = torch.stack(
            [cross_entropy_loss(outputs[name][0], targets, ce["eps"], ce["alpha"]) for name in IDENTITY_LOSSES]
        )
        weights = identity_weights(identity, self.identity_weights)
        mask = self.mask_losses(maps, visible)
        metric = {name: loss(features, targets) for name, (_, loss) in self.metric_losses.items()}

        weighted = ce["scale"] * weights * identity
        losses = {f"loss_identity_{name}": loss for name, loss in zip(IDENTITY_LOSSES, weighted, strict=True)}
        losses.update({name: self.mask_loss["scale"] * loss for name, loss in mask.items()})
        losses.update({name: self.metric_losses[name][0] * loss for name, loss in metric.items()})

        log_accuracy(outputs["joint"][1].detach(), targets)
        raw = {f"raw_loss_{name}": loss for name, loss in zip(IDENTITY_LOSSES, identity, strict=True)}
        raw.update({f"raw_{name}": loss for name, loss in {**mask, **metric}.items()})
        raw.update({f"loss_weight_{name}": weight for name, weight in zip(IDENTITY_LOSSES, weights, strict=True)})
        current_storage().put_scalars(**raw)
        return losses

    def mask_losses(self, maps: dict[str, list[Tensor]], visible: Tensor) -> dict:
        """Suppression loss of each chosen branch, not weighted: on its last feature map, or on every supervised one."""
        if self.mask_loss["scale"] == 0:
            return {}
        supervised = slice(1) if self.mask_loss["stages"] == "last" else slice(None)
        on, resize = self.mask_loss["on"], self.mask_loss["resize"]
        return {
            f"loss_mask_{branch}": sum(suppression_loss(each, visible, on, resize) for each in maps[branch][supervised])
            for branch in self.mask_loss["branches"]
        }


def build_two_branch_heads(cfg) -> nn.Module:
    """The heads of MODEL.HEADS.NAME; raises InputError where they are the host's, for one feature map."""
    heads = build_heads(cfg)
    if isinstance(heads, EmbeddingHead):  # in evaluation it would take the second feature map for targets
        raise InputError(
            f"MODEL.HEADS.NAME {cfg.MODEL.HEADS.NAME} is for one feature map: IGOAS needs IGOASHead or one like it"
        )
    return heads


def check_mask_loss(keys, attention: bool) -> None:
    """Raises InputError where a key of MODEL.IGOAS.MASK_LOSS has a value that it cannot have, or that has no effect."""
    if keys.SCALE < 0:
        raise InputError(f"MODEL.IGOAS.MASK_LOSS.SCALE must not be negative, got {keys.SCALE}")
    require_choice("MODEL.IGOAS.MASK_LOSS.ON", keys.ON, RESPONSES)
    require_choice("MODEL.IGOAS.MASK_LOSS.RESIZE", keys.RESIZE, RESIZES)
    require_choice("MODEL.IGOAS.MASK_LOSS.STAGES", keys.STAGES, ("last", "both"))
    used = keys.SCALE > 0 and len(keys.BRANCHES) > 0
    if used and keys.STAGES == "both" and not (attention and "suppression" in keys.BRANCHES):
        raise InputError(
            "MODEL.IGOAS.MASK_LOSS.STAGES both is for the attention of the suppression branch: it needs "
            "MODEL.IGOAS.SUPPRESSION.ATTENTION True, and suppression in MODEL.IGOAS.MASK_LOSS.BRANCHES"
        )
    for branch in keys.BRANCHES:
        require_choice("Each of MODEL.IGOAS.MASK_LOSS.BRANCHES", branch, ("global", "suppression"))
