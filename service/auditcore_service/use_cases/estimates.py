"""What an audit or a training will cost by what workers have measured, and whether the limits allow that much."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection

from auditcore.contracts.capabilities import ModelCapabilities
from auditcore.contracts.input_shape import TYPICAL
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.model_reference import ModelReference, ServedModel
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import Wave
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.costs.cost_model import (
    Estimate,
    ModelSpeed,
    calibrated_passes_per_s,
    estimate_of,
    model_identity,
    most_expensive_check,
    network_identity,
    plan_identity,
    way_identity,
)
from auditcore.costs.estimate import expected_passes, expected_reference_passes, known_facts, waves_of
from auditcore.costs.image_size import input_shape_of, size_factor
from auditcore.costs.passes import ModelFacts
from auditcore.costs.training_speed import TrainingSpeed, training_identity, training_way_identity
from auditcore.errors import RequestBudgetExceeded
from auditcore_service.settings import Settings
from auditcore_service.store.speeds import SeenSpeed, speeds_of


@final
@dataclass(frozen=True)
class Price:
    """What an audit will cost.

    Attributes:
        longest_image_s: Seconds that one image takes in the longest wave of the slowest model.
    """

    estimate: Estimate
    longest_image_s: float


@final
class Estimates:
    """Prices of audits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def price(
        self,
        connection: Connection,
        request: AuditRequest,
        plan: AuditPlan,
        *,
        images: int,
        model_capabilities: Sequence[ModelCapabilities],
    ) -> Price:
        """What a request will cost, by what workers have measured until now.

        Args:
            connection: Reads measured speeds.
            request: With resolved models.
            plan: The plan in full.
            images: Number of images.
            model_capabilities: Capabilities of each model that the request loads, in order.
        """
        loaded = self._speeds(connection, request, plan, model_capabilities)
        audited = len(request.references)
        speeds = loaded[:audited]
        return Price(
            estimate_of(plan, images=images, speeds=speeds, compared=loaded[audited:]),
            max(speed.image_seconds(plan, wave) for speed in speeds for wave in waves_of(plan)),
        )

    def _speeds(
        self,
        connection: Connection,
        request: AuditRequest,
        plan: AuditPlan,
        model_capabilities: Sequence[ModelCapabilities],
    ) -> tuple[ModelSpeed, ...]:
        references = [reference for _, reference in request.loaded_models]
        known: dict[str, list[SeenSpeed]] = defaultdict(list)
        wanted = {identity(reference) for reference in references for identity in (model_identity, network_identity)}
        for seen in speeds_of(connection, sorted(wanted)):
            known[seen.model].append(seen)
        return tuple(
            self._speed(
                reference,
                known[model_identity(reference)],
                known[network_identity(reference)],
                plan.for_model(name),
                capabilities,
                name,
            )
            for (name, reference), capabilities in zip(request.loaded_models, model_capabilities, strict=True)
        )

    def _speed(
        self,
        reference: ModelReference,
        seen: list[SeenSpeed],
        at_any_size: list[SeenSpeed],
        plan: AuditPlan,
        capabilities: ModelCapabilities,
        name: str | None,
    ) -> ModelSpeed:
        """Speed of this plan if it has run before, else from the raw speed of the model; on the device seen last.

        A model that was measured only with another input size is as fast as its pixels, or tokens, let it be.
        """
        shape = input_shape_of(reference)
        device, rates = _rates_on_last_device(seen or at_any_size)
        # what was measured at any size was stored as if at the typical one
        slower, fewer_maps = (1.0, 1.0) if seen else (size_factor(reference, shape), shape.pixels / TYPICAL.pixels)
        identity, way = plan_identity(plan), way_identity(plan)
        speeds: dict[Wave, float] = {}
        for wave in waves_of(plan):
            if (identity, wave) in rates:
                speeds[wave] = rates[identity, wave]
            elif (way, "comparison") in rates:
                speeds[wave] = calibrated_passes_per_s(
                    plan,
                    wave=wave,
                    forward_per_s=rates[way, "forward"] / slower,
                    gradient_per_s=rates[way, "gradient"] / slower,
                    comparison_per_s=rates[way, "comparison"] / fewer_maps,
                    capabilities=capabilities,
                    shape=shape,
                )
            else:
                return ModelSpeed.assumed(self._settings.passes_per_s, reference, capabilities, name=name)
        return ModelSpeed(speeds, device, capabilities, shape, name)


def _rates_on_last_device(seen: Sequence[SeenSpeed]) -> tuple[str | None, dict[tuple[str, str], float]]:
    """The device that was seen last, and passes per second there by plan and wave."""
    device = max(seen, key=lambda one: one.updated_at).device if seen else None
    return device, {(one.plan, one.wave): one.passes / one.seconds for one in seen if one.device == device}


def measured_training_speed(
    connection: Connection, reference: ModelReference, plan: TrainingPlan
) -> TrainingSpeed | None:
    """How fast a model trains by this plan, or else by other plans, on the device seen last; None if none has run."""
    seen = speeds_of(connection, [training_identity(reference)])
    way = training_way_identity(plan)
    known = [one for one in seen if one.plan == way] or seen
    if not known:
        return None
    device = max(known, key=lambda one: one.updated_at).device
    there = [one for one in known if one.device == device]
    return TrainingSpeed(sum(one.passes for one in there) / sum(one.seconds for one in there), device)


def check_request_limits(
    request: AuditRequest, plan: AuditPlan, *, images: int, model_capabilities: Sequence[ModelCapabilities]
) -> None:
    """Refuse an audit that needs more requests to a model server than its own `limits.requests` allows.

    Args:
        request: Its models behind servers are checked.
        plan: The plan in full.
        images: Number of images.
        model_capabilities: Capabilities of each model that the request loads, in order.

    Raises:
        RequestBudgetExceeded: It needs more; the message says how many, and what to reduce.
    """
    known = {
        name: known_facts(plan, own, input_shape_of(reference))
        for (name, reference), own in zip(request.loaded_models, model_capabilities, strict=True)
    }
    audited = len(request.references)
    for position, (name, reference) in enumerate(request.loaded_models):
        if not isinstance(reference, ServedModel) or reference.limits.requests is None:
            continue
        waves = tuple(wave for wave in waves_of(plan) if position < audited or wave == "measure")
        forward = _forward_images(plan, name, waves, images=images, known=known)
        needed = math.ceil(forward / reference.limits.images_per_request)
        if needed > reference.limits.requests:
            message = (
                f"the audit will send about {forward} images to the server in at least {needed} requests of "
                f"{reference.limits.images_per_request} images, but `requests` allows {reference.limits.requests}; use "
                "fewer images, explainers or checks, or raise `requests` or `images_per_request`"
            )
            with blaming_model(name, position if position < audited else None):
                raise RequestBudgetExceeded(message, field="model.limits.requests")


def _forward_images(
    plan: AuditPlan,
    name: str | None,
    waves: Sequence[Wave],
    *,
    images: int,
    known: Mapping[str | None, ModelFacts],
) -> int:
    """Images that pass forward through one model of an audit, in its own shards and as the reference of others.

    Args:
        plan: The plan in full.
        name: Name of the model; None in an audit of one.
        waves: Waves of which it has shards.
        images: Number of images.
        known: Facts of every model by its name.
    """
    references = {other: own for other, own in known.items() if other is not None}

    def on_reference(model: str | None, reference: str) -> int:
        return expected_reference_passes(
            plan.for_model(model), reference, images=images, facts=known[model], references=references
        ).forward

    own = plan.for_model(name)
    expected = [
        expected_passes(
            own,
            wave=wave,
            images=images,
            capabilities=known[name].capabilities,
            shape=known[name].shape,
            references=references,
        )
        for wave in waves
    ]
    forward = sum(total(by_purpose.values()).forward for by_purpose in expected)
    if "compute" in waves:
        forward -= sum(on_reference(name, other) for other in own.reference_models)
    if name is not None:
        forward += sum(on_reference(other, name) for other in known)
    return forward


def objection_to(estimate: Estimate, plan: AuditPlan, settings: Settings) -> str | None:
    """Why the operator's budget forbids an audit, and what to reduce; None if it does not."""
    limits = (
        (estimate.seconds, settings.budget_s, "seconds of workers"),
        (float(estimate.passes), settings.budget_passes, "forward passes"),
    )
    excesses = [(value, float(budget), unit) for value, budget, unit in limits if budget is not None and value > budget]
    if not excesses:
        return None
    fitting = min(int(estimate.images * budget / value) for value, budget, _ in excesses)
    check, share = most_expensive_check(plan)
    found = " and ".join(f"{value:.10g} {unit}, above the budget of {budget:.10g}" for value, budget, unit in excesses)
    images = f"use at most {fitting} of the {estimate.images} images, or " if fitting else "use "
    return (
        f"the audit is estimated at {found} ({estimate.basis}, {estimate.passes_per_s:g} passes per second); {images}"
        f"fewer explainers, levels, repeats or draws: check {check.label!r} takes {100 * share:.0f} % of the "
        "checks' passes; the operator can raise AUDIT_BUDGET_S or AUDIT_BUDGET_PASSES"
    )
