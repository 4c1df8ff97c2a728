"""Checks that compare models: which model of the request they compare the others with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from auditcore.contracts.baseline_reference import BASELINE_MODEL
from auditcore.contracts.checks import Check, CheckContract
from auditcore.contracts.plan import AuditPlan
from auditcore.errors import InvalidRequest


def compares_models(check: CheckContract) -> bool:
    """Whether a check needs another model: an audit of several models, or a baseline."""
    return "several_models" in check.needs


def with_reference_models(plan: AuditPlan, models: Sequence[str], *, baseline: bool = False) -> AuditPlan:
    """The plan in which every check that compares models names its reference.

    Args:
        plan: The plan in full.
        models: Names of the models of the request; empty in an audit of one.
        baseline: Whether the request has a baseline. Its model is the reference in an audit of one model.

    Raises:
        InvalidRequest: A check compares models in an audit of one without a baseline, or with a model that the request
            does not name.
    """
    if not any(map(compares_models, plan.checks)):
        return plan
    checks = tuple(
        _with_reference_model(check, models, baseline=baseline, field=f"plan.checks.{number}")
        for number, check in enumerate(plan.checks)
    )
    return plan.model_copy(update={"checks": checks})


def _with_reference_model(check: Check, models: Sequence[str], *, baseline: bool, field: str) -> Check:
    if not compares_models(check):
        return check
    if not models and not baseline:
        msg = (
            f"check {check.label!r} compares the maps of several models, but the request has one `model`; list two or "
            "more under `models`, or name an earlier audit as `baseline`, or remove the check"
        )
        raise InvalidRequest(msg, field=field)
    if not models:
        named = check.with_reference_model(BASELINE_MODEL)
        if named.reference_model != BASELINE_MODEL:
            msg = (
                f"check {check.label!r} compares with model {named.reference_model!r}, but in an audit of one `model` "
                f"it compares with that of `baseline`; use null or {BASELINE_MODEL!r}"
            )
            raise InvalidRequest(msg, field=f"{field}.reference")
        return cast("Check", named)
    named = check.with_reference_model(models[0])
    if named.reference_model not in models:
        msg = (
            f"check {check.label!r} compares with model {named.reference_model!r}, which is not in `models`; use one "
            f"of: {', '.join(models)}; or null for the first"
        )
        raise InvalidRequest(msg, field=f"{field}.reference")
    return cast("Check", named)
