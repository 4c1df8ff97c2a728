"""What a model offers an audit, and which explainers and checks it rules out."""

from __future__ import annotations

from typing import Any, final

from pydantic import Field, model_validator

from auditcore.contracts.checks import CheckContract
from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import EXPLAINER_CONTRACTS, ExplainerContract

_LAYERS = frozenset({"modules", "layer"})
_INNER = _LAYERS | {"gradient", "attention"}


@final
class ModelCapabilities(Contract):
    """What a model offers an audit. The default is a PyTorch model, which offers everything."""

    gradients: bool = Field(default=True, description="Gradients, layers and weights; false for a black box.")
    layers: bool = Field(default=True, description="Whether layers can be read and replaced; false for programs.")
    weights: bool = Field(default=True, description="Whether weights can be altered; false for programs.")
    limitation: str | None = Field(
        default=None, description="Why something is missing, for a model that is not a black box."
    )
    top_classes: int | None = Field(
        default=None, description="How many classes the model returns, the most probable ones; all if null."
    )
    conversion_failure: str | None = Field(
        default=None,
        exclude_if=lambda failure: failure is None,
        description="Why a graph could not be converted to PyTorch, so that it gives only predictions.",
    )

    @model_validator(mode="before")
    @classmethod
    def _black_box_offers_nothing_else(cls, given: Any) -> Any:  # noqa: ANN401 - whatever was passed
        if isinstance(given, dict) and given.get("gradients") is False and given.get("limitation") is None:
            return {"layers": False, "weights": False, **given}
        return given

    @property
    def all_classes(self) -> bool:
        """Whether the model returns the scores of all classes."""
        return self.top_classes is None


WHITE_BOX = ModelCapabilities()
BLACK_BOX = ModelCapabilities(gradients=False)
PROGRAM = ModelCapabilities(
    layers=False,
    weights=False,
    limitation="it reads or alters layers or weights, which a compiled program does not offer; send an architecture "
    "with its weights, for example as kind `factory`",
)
"""A program of TorchScript or torch.export: predictions and gradients."""

_BLACK_BOX_EXPLAINERS = [
    contract.model_fields["kind"].default for contract in EXPLAINER_CONTRACTS if contract.needs == {"forward"}
]
_ONLY_PREDICTIONS = "it needs gradients or layers, and this model gives only predictions"
_USE_OTHERS = f"use {', '.join(_BLACK_BOX_EXPLAINERS[:-1])} or {_BLACK_BOX_EXPLAINERS[-1]}"
NO_GRADIENTS = f"{_ONLY_PREDICTIONS}; {_USE_OTHERS}, or send the model itself"
NO_COPIES = "uploaded maps explain the original images, and this check explains changed copies of them"
OTHER_WEIGHTS = (
    "its maps come from a server, and this check alters the weights of the model, which the server does not see"
)
SAME_MAPS = (
    "its maps do not come from the models of the audit, so they would be the same for all of them, and this check "
    "compares the maps of several models"
)
NO_WEIGHTS = "it alters the weights, and this model does not give them; send the model itself"


def _only_top(count: int) -> str:
    return (
        f"the server returns only its {count} most probable classes, and for a changed copy the class that is "
        "explained may not be among them; serve all classes, for example with the handler of docker/torchserve"
    )


def explainer_incompatibility(explainer: ExplainerContract, capabilities: ModelCapabilities) -> str | None:
    """Why a method cannot run on a model with these capabilities, or None."""
    needed = _LAYERS if capabilities.gradients else _INNER
    if not (capabilities.gradients and capabilities.layers) and explainer.needs_of_model & needed:
        if capabilities.limitation is not None:
            return capabilities.limitation
        known = capabilities.conversion_failure
        return NO_GRADIENTS if known is None else f"{_ONLY_PREDICTIONS}: {known}; {_USE_OTHERS}"
    if capabilities.top_classes is not None and explainer.needs_of_model:
        return _only_top(capabilities.top_classes)
    return None


def check_incompatibility(check: CheckContract, capabilities: ModelCapabilities) -> str | None:
    """Why a check cannot run on a model with these capabilities, or None."""
    if capabilities.top_classes is not None and "class_scores" in check.needs:
        return _only_top(capabilities.top_classes)
    if not capabilities.weights and "weights" in check.needs:
        if capabilities.limitation is not None:
            return capabilities.limitation
        known = capabilities.conversion_failure
        return NO_WEIGHTS if known is None else f"it alters the weights, and this model gives only predictions: {known}"
    return None


def pair_incompatibility(check: CheckContract, explainer: ExplainerContract) -> str | None:
    """Why a check cannot judge an explainer on any model, or None."""
    if not explainer.computes_maps and "maps_of_copies" in check.needs:
        return NO_COPIES
    if not explainer.follows_weights and "weights" in check.needs:
        return OTHER_WEIGHTS
    if not (explainer.computes_maps and explainer.follows_weights) and "several_models" in check.needs:
        return SAME_MAPS
    return None
