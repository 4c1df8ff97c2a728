"""How to run an audit again: a request made from its report, and the commands that send it."""

from __future__ import annotations

import json
from typing import Any

from auditcore.contracts.report import AuditReport, ConditionOutcome


def request_text(report: AuditReport) -> str:
    """A request for the same audit of the same model by the same plan and policy, as far as the report knows it.

    Args:
        report: The audit's report.

    Returns:
        JSON without `images`, which the command names. A policy with a name is named; other conditions are those of the
        report, without what only the request holds, such as `on_not_applicable` and tags.
    """
    request: dict[str, Any] = {}
    if report.model is not None:
        request["model"] = report.model.reference.model_dump(mode="json")
    else:
        request["models"] = [
            {"name": one.name, "model": one.reference.model_dump(mode="json")} for one in report.models
        ]
    request["plan"] = report.plan.model_dump(mode="json")
    if report.policy is not None:
        request["policy"] = f"{report.policy.name}@{report.policy.version}"
    elif report.conditions:
        request["policy"] = [_condition(report, one) for one in report.conditions]
    if report.stopping is not None:
        request["stop"] = report.stopping.rule
    if report.baseline is not None:
        request["baseline"] = {"audit": report.baseline.audit_id}
    return json.dumps(request, indent=2, ensure_ascii=False)


def _condition(report: AuditReport, outcome: ConditionOutcome) -> dict[str, Any]:
    fields = {
        # a pattern has many outcomes with one id, and the ids of a request differ
        "id": outcome.id if sum(one.id == outcome.id for one in report.conditions) == 1 else None,
        "model": outcome.model,
        "check": outcome.check,
        "explainer": outcome.explainer,
        "metric": outcome.metric,
        "variant": outcome.variant,
        "statistic": outcome.statistic,
        "min_images": outcome.min_images,
        "severity": outcome.severity,
        outcome.comparison: outcome.threshold,
    }
    return {name: value for name, value in fields.items() if value is not None}
