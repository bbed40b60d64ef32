"""OcclusionWrapper: any meta-architecture behind an occlusion block."""

import inspect

from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import nn

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.freezing import FreezePlan
from igoas_plugin.fastreid_fixes.preprocessing import for_precise_bn
from igoas_plugin.occlusion import build_occlusion
from igoas_plugin.occlusion.block import occlude

from .igoas import IGOAS


class OccludedTraining:
    """Mix-in of a meta-architecture that occludes its normalised batch in training.

    The parameters keep their names, so that checkpoints fit with and without it.
    """

    occlusion: nn.Module

    def preprocess_image(self, batched_inputs):
        images = super().preprocess_image(batched_inputs)
        if not self.training or for_precise_bn(batched_inputs["targets"]):
            return images
        return occlude(self.occlusion, images)[0]


@META_ARCH_REGISTRY.register()
def OcclusionWrapper(cfg) -> nn.Module:
    """Builds the meta-architecture MODEL.OCCLUSION.WRAPS, which is trained behind the block MODEL.OCCLUSION.NAME.

    Table VIII of the paper trains a plain ResNet-50 so. The wrapped class must normalise its batch in a method
    ``preprocess_image(batched_inputs)``, as the classes of fast-reid do.

    Raises:
        InputError: WRAPS names no class, a class without that method or with an occlusion of its own, or the block
            acts on feature maps.
    """
    name = cfg.MODEL.OCCLUSION.WRAPS
    wrapped = META_ARCH_REGISTRY.get(name)
    occludes = not inspect.isclass(wrapped) or issubclass(wrapped, IGOAS)
    if occludes or not hasattr(wrapped, "preprocess_image"):
        raise InputError(
            f"OcclusionWrapper cannot wrap {name}: MODEL.OCCLUSION.WRAPS must name a class with a method "
            "preprocess_image and no occlusion of its own, such as Baseline or MGN"
        )
    model = type(f"Occluded{name}", (OccludedTraining, wrapped), {})(cfg)
    model.occlusion = build_occlusion(cfg)
    if hasattr(model.occlusion, "drop"):
        block = cfg.MODEL.OCCLUSION.NAME
        raise InputError(
            f"OcclusionWrapper occludes images, and {block} drops a part of the feature map of IGOAS: set "
            "MODEL.OCCLUSION.NAME to a block on images, such as IncrementalErasing"
        )
    return model


def freeze_plan_of_wrapped(cfg) -> FreezePlan:
    """Returns what the wrapped meta-architecture freezes."""
    wrapped = META_ARCH_REGISTRY.get(cfg.MODEL.OCCLUSION.WRAPS)
    return wrapped.freeze_plan(cfg) if hasattr(wrapped, "freeze_plan") else FreezePlan()


OcclusionWrapper.freeze_plan = freeze_plan_of_wrapped
