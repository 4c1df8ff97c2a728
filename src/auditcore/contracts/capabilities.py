"""What a model lets an audit see, and what that means for every explainer and check."""

from __future__ import annotations

from typing import final

from pydantic import Field

from auditcore.contracts.checks import CheckContract
from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import ExplainerContract

_INNER = frozenset({"gradient", "modules", "layer"})


@final
class ModelCapabilities(Contract):
    """What a model lets an audit see. The default is a model of PyTorch, which lets it see everything."""

    gradients: bool = Field(default=True, description="Gradients and layers, and with them weights; else a black box.")
    top_classes: int | None = Field(
        default=None, description="How many of its classes are answered, the most probable ones; all if null."
    )

    @property
    def all_classes(self) -> bool:
        """Whether the score of any class can be read for any image."""
        return self.top_classes is None


WHITE_BOX = ModelCapabilities()
BLACK_BOX = ModelCapabilities(gradients=False)

NO_GRADIENTS = (
    "it needs gradients or layers, and this model gives predictions alone; use occlusion, ablation, rise or "
    "kernel_shap, or send the model itself"
)
NO_COPIES = "uploaded maps explain the images as they are, and this check explains changed copies of them"
NO_WEIGHTS = "it alters the weights, and this model keeps them to itself; send the model itself"


def _only_top(count: int) -> str:
    return (
        f"the server answers its {count} most probable classes alone, and the class that is explained may not be "
        "among them for a changed copy; serve all classes, such as with the handler of docker/torchserve"
    )


def explainer_incompatibility(explainer: ExplainerContract, capabilities: ModelCapabilities) -> str | None:
    """Why a method cannot run on a model that offers so much, or None."""
    if not capabilities.gradients and explainer.needs & _INNER:
        return NO_GRADIENTS
    if capabilities.top_classes is not None and explainer.needs:
        return _only_top(capabilities.top_classes)
    return None


def check_incompatibility(check: CheckContract, capabilities: ModelCapabilities) -> str | None:
    """Why a check cannot run on a model that offers so much, or None."""
    if capabilities.top_classes is not None and "class_scores" in check.needs:
        return _only_top(capabilities.top_classes)
    if not capabilities.gradients and "weights" in check.needs:
        return NO_WEIGHTS
    return None


def pair_incompatibility(check: CheckContract, explainer: ExplainerContract) -> str | None:
    """Why a check has nothing to say of an explainer, whatever the model; or None."""
    if not explainer.computes_maps and "maps_of_copies" in check.needs:
        return NO_COPIES
    return None
