"""What must be known of a request before anything is priced, stored or computed. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from auditcore.contracts.access import AccessRules
from auditcore.contracts.baseline_reference import BASELINE_MODEL
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import validate_policy
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.presets import plan_for_models
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shipped_policies import FindPolicy, find_shipped_policy, with_policy
from auditcore.errors import InvalidRequest
from auditcore.sources.resolved_model import Resolution
from auditcore.sources.resolving import resolve_model, resolve_request


@final
@dataclass(frozen=True)
class PreparedRequest:
    """A request that can be carried out, as far as that is known without the images and the models.

    Attributes:
        request: The request about models as they are now, by version and digest, with the whole policy.
        plan: The plan in full.
        resolutions: What was found out about each model, in the order of `request.loaded_models`.
    """

    request: AuditRequest
    plan: AuditPlan
    resolutions: tuple[Resolution, ...]


def prepare_request(
    request: AuditRequest, access: AccessRules, *, find_policy: FindPolicy = find_shipped_policy
) -> PreparedRequest:
    """Check a request, write out its plan and look up its policy and its models.

    Args:
        request: What to audit.
        access: What the request may reach.
        find_policy: Looks up a policy that the request names; only those that come with auditcore by default.

    Raises:
        InputError: The request cannot be carried out. `field` says where, the message says how to fix it.
    """
    access.check_images(request.images)
    request = with_policy(request, find_policy)
    plan = plan_in_full(request)
    access.check_explainers(plan.explainers)
    resolved, resolutions = resolve_request(request, access)
    return PreparedRequest(resolved, plan, resolutions)


def with_baseline_model(prepared: PreparedRequest, report: AuditReport, access: AccessRules) -> PreparedRequest:
    """The same request with the model of its baseline, if a check compares the only model with it.

    Args:
        prepared: The request, with its baseline by the digest of its report.
        report: The report of the baseline, which has passed `require_comparable`.
        access: What the request may reach.

    Raises:
        InputError: The model of the baseline is not allowed, or no worker could load it; `field` begins with
            `baseline.model`.
    """
    request, baseline = prepared.request, prepared.request.baseline
    if baseline is None or request.models or not prepared.plan.reference_models:
        return prepared
    (earlier,) = report.audited_models
    with blaming_model(BASELINE_MODEL, None):
        found = resolve_model(baseline.model or earlier.reference, access)
    pinned = baseline.model_copy(update={"model": found.reference})
    return replace(
        prepared,
        request=request.model_copy(update={"baseline": pinned}),
        resolutions=(*prepared.resolutions, found),
    )


def plan_in_full(request: AuditRequest) -> AuditPlan:
    """The plan that a request stands for, once its policy is known to fit. Looks at no image and no model.

    Args:
        request: What to audit, with its whole policy; see `with_policy`.

    Raises:
        InputError: The preset is unknown, a check compares models that the request does not name, or a condition of
            the policy names what the plan does not compute.
    """
    models = [name for name, _ in request.references if name is not None]
    plan = plan_for_models(request.plan, models, baseline=request.baseline is not None)
    try:
        validate_policy(request.conditions, plan, models, baseline=request.baseline is not None)
    except InvalidRequest as error:
        if not isinstance(request.policy, PolicyDocument):
            raise
        field = error.field.replace("policy", "policy.conditions", 1)
        msg = f"policy {request.policy.label}: {error.message}"
        raise InvalidRequest(msg, field=field) from error
    return plan
