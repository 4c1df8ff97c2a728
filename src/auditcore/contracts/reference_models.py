"""Checks that compare models: which model of the request they compare the others with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from auditcore.contracts.checks import Check, CheckContract
from auditcore.contracts.plan import AuditPlan
from auditcore.errors import InvalidRequest


def compares_models(check: CheckContract) -> bool:
    """Whether a check needs an audit of several models."""
    return "several_models" in check.needs


def with_reference_models(plan: AuditPlan, models: Sequence[str]) -> AuditPlan:
    """The plan in which every check that compares models names its reference.

    Args:
        plan: The plan in full.
        models: Names of the models of the request; empty in an audit of one.

    Raises:
        InvalidRequest: A check compares models in an audit of one, or with a model that the request does not name.
    """
    if not any(map(compares_models, plan.checks)):
        return plan
    checks = tuple(
        _with_reference_model(check, models, field=f"plan.checks.{number}") for number, check in enumerate(plan.checks)
    )
    return plan.model_copy(update={"checks": checks})


def _with_reference_model(check: Check, models: Sequence[str], *, field: str) -> Check:
    if not compares_models(check):
        return check
    if not models:
        msg = (
            f"check {check.label!r} compares the maps of several models, but the request has one `model`; list two or "
            "more under `models`, or remove the check"
        )
        raise InvalidRequest(msg, field=field)
    named = check.with_reference_model(models[0])
    if named.reference_model not in models:
        msg = (
            f"check {check.label!r} compares with model {named.reference_model!r}, which is not in `models`; use one "
            f"of: {', '.join(models)}; or null for the first"
        )
        raise InvalidRequest(msg, field=f"{field}.reference")
    return cast("Check", named)
