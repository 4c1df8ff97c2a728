"""From a plan to seconds: passes that are expected, over the speed that was measured or is assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

from pydantic import Field

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.capabilities import WHITE_BOX, ModelCapabilities
from auditcore.contracts.checks import Check
from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.input_shape import TYPICAL, InputShape
from auditcore.contracts.model_reference import BuiltModel, ModelReference
from auditcore.contracts.models import DemoModel
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Wave
from auditcore.costs.estimate import RELEVANCE_COST, expected_passes, known_facts, passes_of, waves_of, weight
from auditcore.costs.image_size import assumed_passes_per_s, input_shape_of
from auditcore.costs.passes import ModelFacts, map_comparisons

ENGINE_EFFICIENCY = 0.9
"""Share of the time of a check that the model itself takes, not counting comparisons of maps; `make bench` shows it."""

Basis = Literal["measured", "assumed"]


@final
class Estimate(Contract):
    """What an audit is expected to cost, made when it is submitted.

    Attributes:
        passes: Both kinds in forward passes; what `seconds` follow from.
    """

    images: int = Field(description="Images of the audit.")
    forward_images: int = Field(description="Images expected to pass forward through the models.")
    backward_images: int = Field(description="Images expected to pass backward.")
    passes: int = Field(description="The work in forward passes: a backward pass counts as 1.3, LRP by its rules.")
    seconds: float = Field(
        description="Expected seconds of workers, all models together; compare with `cost.seconds` of the report. "
        "Several workers share them, and a stop rule may need fewer."
    )
    passes_per_s: float = Field(description="Forward passes per second behind `seconds`; the mean over models.")
    basis: Basis = Field(
        description="`measured`: workers have run this plan on every model of the request, or else have measured the "
        "raw speed of each, perhaps at another input size. "
        "`assumed`: some model is new, and the operator's AUDIT_PASSES_PER_S, scaled to its input size, is used."
    )
    device: str | None = Field(default=None, description="Where the speed was measured; null when it is assumed.")


@final
@dataclass(frozen=True)
class ModelSpeed:
    """How fast one model runs.

    Attributes:
        passes_per_s: Expected forward passes per second of a worker, by wave.
        device: Where the speed was measured; None if it is assumed.
        capabilities: What the model lets an audit see. A black box has no gradients, so none are counted.
        shape: Channels, height and width of its input; some methods make more passes over larger images.
        name: Its name in an audit of several models; None in an audit of one.
    """

    passes_per_s: Mapping[Wave, float]
    device: str | None = None
    capabilities: ModelCapabilities = WHITE_BOX
    shape: InputShape = TYPICAL
    name: str | None = None

    @classmethod
    def assumed(
        cls,
        passes_per_s: float,
        reference: ModelReference,
        capabilities: ModelCapabilities = WHITE_BOX,
        *,
        name: str | None = None,
    ) -> ModelSpeed:
        """The same for every wave, because nothing is known but the size of the model's input.

        Args:
            passes_per_s: Assumed of a model that sees images of 224 x 224 pixels.
            reference: The model.
            capabilities: What the model lets an audit see.
            name: Its name in an audit of several models.
        """
        rate = assumed_passes_per_s(passes_per_s, reference)
        return cls({"measure": rate, "compute": rate}, None, capabilities, input_shape_of(reference), name)

    def image_seconds(self, plan: AuditPlan, wave: Wave) -> float:
        """Expected seconds that a wave of a plan takes for one image."""
        return passes_of(plan.for_model(self.name), wave=wave, shape=self.shape) / self.passes_per_s[wave]


def estimate_of(
    plan: AuditPlan, *, images: int, speeds: Sequence[ModelSpeed], compared: Sequence[ModelSpeed] = ()
) -> Estimate:
    """What a plan will cost on a number of images, with one speed per model.

    Expected passes over speed, summed over waves and models; `tests/benchmarks/estimates.py` compares with seconds.
    Passes of a reference model count at the speed of the model that it is compared with.

    Args:
        plan: The plan in full.
        images: Number of images.
        speeds: Of each model under audit.
        compared: Of models with which these are only compared. They have no compute wave of their own.
    """
    references = {
        speed.name: known_facts(plan, speed.capabilities, speed.shape)
        for speed in (*speeds, *compared)
        if speed.name is not None
    }
    needed = [
        (
            speed.passes_per_s[wave],
            total(
                expected_passes(
                    plan.for_model(speed.name),
                    wave=wave,
                    images=images,
                    capabilities=speed.capabilities,
                    shape=speed.shape,
                    references=references,
                ).values()
            ),
        )
        for wave in waves_of(plan)
        for speed in (*speeds, *(compared if wave == "measure" else ()))
    ]
    each = total(passes for _, passes in needed)
    seconds = sum(weight(passes) / passes_per_s for passes_per_s, passes in needed)
    # a plan that cannot run on a black box at all has no work
    work = weight(each)
    rate = work / seconds if seconds else min(min(speed.passes_per_s.values()) for speed in speeds)
    devices = {speed.device for speed in (*speeds, *compared)}
    measured = None not in devices
    return Estimate(
        images=images,
        forward_images=each.forward,
        backward_images=each.backward,
        passes=round(work),
        seconds=round(seconds, 2),
        passes_per_s=round(rate, 3),
        basis="measured" if measured else "assumed",
        device=", ".join(sorted(str(device) for device in devices)) if measured else None,
    )


def calibrated_passes_per_s(
    plan: AuditPlan,
    *,
    wave: Wave,
    forward_per_s: float,
    gradient_per_s: float,
    comparison_per_s: float,
    capabilities: ModelCapabilities = WHITE_BOX,
    shape: InputShape = TYPICAL,
) -> float:
    """Expected passes per second of a plan that has never run, from the raw speed of the model.

    Args:
        plan: The plan.
        wave: Which of its waves.
        forward_per_s: Images a second of the bare model, forward.
        gradient_per_s: The same, forward and backward.
        comparison_per_s: Maps a second that a sweep compares.
        capabilities: What the model lets an audit see.
        shape: Channels, height and width of the model's input.
    """
    needed = total(expected_passes(plan, wave=wave, capabilities=capabilities, shape=shape).values())
    forward_s = 1 / forward_per_s
    backward_s = max(0.0, 1 / gradient_per_s - forward_s)
    seconds = (needed.forward + RELEVANCE_COST * needed.relevance) * forward_s + needed.backward * backward_s
    seconds /= ENGINE_EFFICIENCY
    if wave == "compute":
        targets = plan.top_n if plan.target == "top" else 1
        seconds += (
            targets * map_comparisons(plan, ModelFacts(shape=shape, capabilities=capabilities)) / comparison_per_s
        )
    # a plan that cannot run on a black box at all has only the model's own speed
    return weight(needed) / seconds if needed.forward else forward_per_s


def most_expensive_check(plan: AuditPlan) -> tuple[Check, float]:
    """The check that needs most passes, and its share of the passes of all checks, in [0, 1]."""
    needed = expected_passes(plan, wave="compute")
    costs = [weight(needed[check.label]) for check in plan.checks]
    most = max(range(len(costs)), key=costs.__getitem__)
    return plan.checks[most], costs[most] / max(1.0, sum(costs))


def model_identity(reference: ModelReference) -> Sha256:
    """What distinguishes models: two references that must give the same model have the same identity.

    The demo model is the factory it stands for. Pinned weights are their bytes, wherever they lie; unpinned ones are
    their URI, whose bytes may change. Other references are identified by all their fields.
    """
    spelled = reference.as_factory() if isinstance(reference, DemoModel) else reference
    if not isinstance(spelled, BuiltModel):
        return digest_of(spelled)
    weights = spelled.weights
    if weights.sha256 is not None:
        weights = weights.model_copy(update={"uri": f"blob:{weights.sha256}"})
    elif weights.uri.startswith("blob:sha256:"):
        weights = weights.model_copy(update={"sha256": weights.uri.removeprefix("blob:")})
    return digest_of(spelled.model_copy(update={"weights": weights}))


def network_identity(reference: ModelReference) -> Sha256:
    """What distinguishes networks whatever size they see: the reference without its preprocessing.

    The raw speed of a network at one size of image tells its speed at another.
    """
    spelled = reference.as_factory() if isinstance(reference, DemoModel) else reference
    return digest_of({"network": spelled.model_dump(mode="json", exclude={"preprocessing"})})


def way_identity(plan: AuditPlan) -> Sha256:
    """What distinguishes the ways a model is run, exact or faster, independent of the rest of the plan."""
    return digest_of(plan.speed)


def plan_identity(plan: AuditPlan) -> Sha256:
    """What distinguishes plans by cost: everything except the seed."""
    return digest_of(plan.model_copy(update={"seed": 0}))
