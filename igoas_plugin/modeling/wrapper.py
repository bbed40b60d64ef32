import inspect

from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import nn

from igoas_plugin.core.errors import InputError
from igoas_plugin.fastreid_fixes.freezing import FreezePlan
from igoas_plugin.fastreid_fixes.preprocessing import for_precise_bn
from igoas_plugin.occlusion import build_occlusion

from .igoas import IGOAS


class OccludedTraining:
    """Mixed into a meta-architecture: in training its normalised batch is replaced by an occluded one.

    The architecture's parameters keep their names: its checkpoints fit with and without the wrapper.
    """

    occlusion: nn.Module

    def preprocess_image(self, batched_inputs):
        images = super().preprocess_image(batched_inputs)
        if not self.training or for_precise_bn(batched_inputs["targets"]):
            return images
        return self.occlusion(images)[0]


@META_ARCH_REGISTRY.register()
def OcclusionWrapper(cfg) -> nn.Module:
    """Any registered meta-architecture (MODEL.OCCLUSION.WRAPS), trained behind the block MODEL.OCCLUSION.NAME.

    Table VIII of the paper: a plain ResNet-50 with an occlusion block. The wrapped class must normalise its batch in
    a method ``preprocess_image(batched_inputs)``, as the host's do.

    Raises:
        InputError: it is no class, has no such method, or brings an occlusion block of its own; or the block acts on
            feature maps.
    """
    name = cfg.MODEL.OCCLUSION.WRAPS
    wrapped = META_ARCH_REGISTRY.get(name)
    own = not inspect.isclass(wrapped) or issubclass(wrapped, IGOAS)
    if own or not hasattr(wrapped, "preprocess_image"):
        raise InputError(
            f"OcclusionWrapper cannot wrap {name}: MODEL.OCCLUSION.WRAPS must name a class with a method "
            "preprocess_image and no occlusion of its own, such as Baseline or MGN"
        )
    model = type(f"Occluded{name}", (OccludedTraining, wrapped), {})(cfg)
    model.occlusion = build_occlusion(cfg)
    if hasattr(model.occlusion, "drop"):
        block = cfg.MODEL.OCCLUSION.NAME
        raise InputError(f"OcclusionWrapper occludes images: {block} drops a part of the feature map of IGOAS")
    return model


def freeze_plan_of_wrapped(cfg) -> FreezePlan:
    wrapped = META_ARCH_REGISTRY.get(cfg.MODEL.OCCLUSION.WRAPS)
    return wrapped.freeze_plan(cfg) if hasattr(wrapped, "freeze_plan") else FreezePlan()


OcclusionWrapper.freeze_plan = freeze_plan_of_wrapped
