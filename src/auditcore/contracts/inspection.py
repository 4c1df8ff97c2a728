"""Inspections: which explainers and checks can run on a model, known before an audit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final, get_args

from pydantic import Field

from auditcore.contracts.capabilities import ModelCapabilities, check_incompatibility, explainer_incompatibility
from auditcore.contracts.checks import Check, CheckContract
from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import Explainer, ExplainerContract, default_explainers
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import PlanRequest
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.presets import resolve_plan


@final
class InspectionRequest(Contract):
    """A model, and what is to be done with it.

    Attributes:
        model: The model to look at.
    """

    model: ModelReference
    plan: PlanRequest | None = Field(
        default=None, description="Plan whose explainers and checks are inspected; the whole catalogue if null."
    )

    @property
    def explainers(self) -> tuple[Explainer, ...]:
        """Explainers to be looked at. Without a plan, uploaded maps are left out: they suit any model."""
        if self.plan is not None:
            return resolve_plan(self.plan).explainers
        return default_explainers()

    @property
    def checks(self) -> tuple[Check, ...]:
        """Checks to inspect."""
        if self.plan is not None:
            return resolve_plan(self.plan, several_models=False).checks
        return tuple(kind() for kind in _members(Check))


@final
class Ability(Contract):
    """Whether one explainer or check will run."""

    name: str = Field(description="Its name in the plan; its kind if it has no name.")
    runs: bool | None = Field(description="null if only a worker that loads the model can decide.")
    reason: str | None = Field(default=None, description="Why it will not run, or why that is not known yet.")
    layer: str | None = Field(
        default=None, description="Module path of the layer that an explainer reads; null if it reads none."
    )


@final
class ModelFinding(Contract):
    """What is known of the model itself once it is loaded.

    Attributes:
        digest: sha256 of the weights as loaded.
        classes: Number of classes.
        preprocessing: How an image becomes the model's input.
        notes: What loading has found, such as which weights of a checkpoint were taken.
    """

    digest: str
    classes: int
    parameters: int | None = Field(description="Number of trainable values; null for a black box.")
    preprocessing: Preprocessing
    notes: tuple[str, ...] = Field(default=(), description="What a reader of a report would be told of the model.")


@final
class Inspection(Contract):
    """What will run on a model, and why the rest will not.

    Attributes:
        explainers: Each explainer of the plan, or of the catalogue.
        checks: Each check of the plan, or of the catalogue.
    """

    model: ModelReference = Field(
        description="The model as requested, with the version and digest that an audit would pin now."
    )
    complete: bool = Field(
        description="False while some `runs` are null: a worker is loading the model; send the same request again."
    )
    capabilities: ModelCapabilities | None = Field(
        description="What an audit can use of the model; null while that is not known."
    )
    facts: dict[str, str | int] = Field(
        default_factory=dict, description="Further information about the model from its registry or server."
    )
    found: ModelFinding | None = Field(default=None, description="null if no worker had to load the model.")
    explainers: tuple[Ability, ...]
    checks: tuple[Ability, ...]


UNKNOWN = "it depends on the model's layers, which a worker is inspecting; send the same request again"


def inspection_of(
    request: InspectionRequest,
    reference: ModelReference,
    capabilities: ModelCapabilities | None,
    *,
    incompatibility: Callable[[Explainer], str | None] | None = None,
    layers: Callable[[Explainer], str | None] | None = None,
    facts: dict[str, str | int] | None = None,
    found: ModelFinding | None = None,
) -> Inspection:
    """Return the inspection with everything that is known so far.

    Args:
        request: The request.
        reference: The resolved reference of the model.
        capabilities: What an audit can use of the model, if that is known.
        incompatibility: Returns why an explainer cannot run on the loaded model; None while it is not loaded.
        layers: Returns the layer of the loaded model that an explainer reads.
        facts: Further information about the model, for a person.
        found: Properties of the loaded model.
    """
    explainers = tuple(_explainer(one, capabilities, incompatibility, layers) for one in request.explainers)
    checks = tuple(_check(one, capabilities) for one in request.checks)
    return Inspection(
        model=reference,
        complete=all(one.runs is not None for one in (*explainers, *checks)),
        capabilities=capabilities,
        facts=facts or {},
        found=found,
        explainers=explainers,
        checks=checks,
    )


def _explainer(
    explainer: ExplainerContract,
    capabilities: ModelCapabilities | None,
    incompatibility: Callable[[Any], str | None] | None,
    layers: Callable[[Any], str | None] | None,
) -> Ability:
    reason = None if capabilities is None else explainer_incompatibility(explainer, capabilities)
    if reason is None and incompatibility is not None:
        reason = incompatibility(explainer)
    if (
        reason is None
        and incompatibility is None
        and explainer.needs_of_model
        and (capabilities is None or capabilities.gradients)
    ):
        return Ability(name=explainer.label, runs=None, reason=UNKNOWN)
    layer = layers(explainer) if reason is None and layers is not None else None
    return Ability(name=explainer.label, runs=reason is None, reason=reason, layer=layer)


def _check(check: CheckContract, capabilities: ModelCapabilities | None) -> Ability:
    if capabilities is None:
        # that it needs another model besides says nothing of this one
        unknown = bool(check.needs - {"several_models"})
        return Ability(name=check.label, runs=None if unknown else True, reason=UNKNOWN if unknown else None)
    reason = check_incompatibility(check, capabilities)
    return Ability(name=check.label, runs=reason is None, reason=reason)


def _members(union: Any) -> tuple[type[Any], ...]:  # noqa: ANN401 - a type expression has no type
    return get_args(get_args(union)[0])
