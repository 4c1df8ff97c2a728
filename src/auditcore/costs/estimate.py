"""What a plan will cost, before any model is loaded: waves, and passes per image as one number."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from auditcore.contracts.capabilities import WHITE_BOX, ModelCapabilities
from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.explainers.pass_sharing import map_passes
from auditcore.contracts.input_shape import TYPICAL, InputShape
from auditcore.contracts.pass_counts import Passes, total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Wave
from auditcore.costs.passes import ModelFacts, passes_needed, passes_on_reference

BACKWARD_COST = 1.3
"""A backward pass in forward passes; 1.0 to 1.4 on the demo model and resnet50, two cores."""

RELEVANCE_COST = 2.2
"""What a pass that carries relevance costs beyond one that carries gradients, in forward passes: with it 3.2 to 5.1 on
resnet50 and 4.3 to 7.1 on the demo model, by composite, as `make bench` measures."""


def waves_of(plan: AuditPlan) -> tuple[Wave, ...]:
    """The waves an audit needs: `compute`, and before it `measure` if a check or explainer needs all images for that.

    It does for an automatic interval, the data range of SSIM, or the statistics of a layer.
    """
    needed = any(explainer.needs_measure_wave for explainer in plan.explainers) or any(
        check.needs_measure_wave for check in plan.checks
    )
    return ("measure", "compute") if needed else ("compute",)


def weight(passes: Passes) -> float:
    """Passes in forward passes: what a progress bar and an estimate count."""
    return passes.forward + BACKWARD_COST * passes.backward + RELEVANCE_COST * passes.relevance


def expected_passes(
    plan: AuditPlan,
    *,
    wave: Wave,
    images: int = 1,
    capabilities: ModelCapabilities = WHITE_BOX,
    shape: InputShape = TYPICAL,
    references: Mapping[str, ModelFacts] | None = None,
) -> dict[str, Passes]:
    """Passes of one wave by purpose, as far as they are known before the images are known.

    Given labels are counted as one: how many an image has is known only with the images.

    Args:
        plan: The plan of one model.
        wave: Which of its waves.
        images: Number of images.
        capabilities: What the model lets an audit see.
        shape: Channels, height and width of its input.
        references: Facts of the models with which checks compare it, by name.
    """
    return passes_needed(
        plan,
        wave=wave,
        images=images,
        rows=images * _targets(plan),
        facts=known_facts(plan, capabilities, shape),
        references=references,
    )


def expected_reference_passes(
    plan: AuditPlan, reference: str, *, images: int, facts: ModelFacts, references: Mapping[str, ModelFacts]
) -> Passes:
    """Passes that a model makes in the compute wave of another, for the checks that compare the two.

    Args:
        plan: The plan of the model under audit.
        reference: Name of the model that makes the passes.
        images: Number of images.
        facts: Of the model under audit.
        references: Of the models with which checks compare it, by name.
    """
    return passes_on_reference(plan, reference, rows=images * _targets(plan), facts=facts, references=references)


def known_facts(plan: AuditPlan, capabilities: ModelCapabilities, shape: InputShape) -> ModelFacts:
    """What is known of a model before it is loaded."""
    return ModelFacts(shape=shape, one_target=_targets(plan) == 1, capabilities=capabilities)


def _targets(plan: AuditPlan) -> int:
    """Classes that are explained per image, as far as that is known."""
    return plan.top_n if plan.target == "top" else 1


@lru_cache(maxsize=256)
def passes_of(plan: AuditPlan, *, wave: Wave | None = None, shape: InputShape = TYPICAL) -> int:
    """Expected cost of one image, in forward passes; of one wave or of the whole audit.

    Remembered: a gateway sizes shards, weighs them and makes an estimate of each plan, and most plans come again.
    """
    if wave is None:
        return sum(passes_of(plan, wave=each, shape=shape) for each in waves_of(plan))
    return round(weight(total(expected_passes(plan, wave=wave, shape=shape).values())))


def explanation_passes(explainer: ExplainerContract) -> float:
    """Cost of one map of a changed copy, in forward passes."""
    return weight(map_passes((explainer,), shape=TYPICAL))
