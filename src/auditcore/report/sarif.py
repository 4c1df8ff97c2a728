"""A report as SARIF 2.1.0: every condition of the policy is a rule, and every outcome a result.

SARIF is made for findings in files. It fits here because a result need not have a place in a file: a logical location
names the number that was judged. Viewers in code reviews show only results with a place in a file. So each result also
points to the file of the policy if there is one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.report import AuditReport, ConditionOutcome
from auditcore.report.outcomes import result_name, wanted_text

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"

_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "passed": ("pass", "none"),
    "failed": ("fail", "error"),
    "warned": ("fail", "warning"),
    # a kind other than `fail` would have no level, and viewers would hide what keeps the verdict from passing
    "inconclusive": ("fail", "warning"),
    "not_applicable": ("fail", "warning"),
    "vacuous": ("fail", "note"),
    "skipped": ("notApplicable", "none"),
}
"""Status of a condition -> kind and level of its result."""


def render_sarif(report: AuditReport, *, policy_file: str | None = None) -> str:
    """SARIF with one result per condition; in an audit of several models, one per condition and model.

    A missed condition has the level `error`, or `warning` if its severity is `warn`. One that neither passed nor was
    missed has the level `warning`, or `note` if its severity is `warn`. A vacuous one has the level `note`. Conditions
    that passed or were skipped have no level.

    Args:
        report: The audit's report.
        policy_file: The file that the policy was read from, as a relative URI; results then have a place in it.

    Returns:
        A JSON document of one run.
    """
    rules: dict[str, dict[str, Any]] = {}
    for outcome in report.conditions:
        rules.setdefault(outcome.id, _rule(outcome))
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "auditcore",
                "version": report.manifest.auditcore_version,
                "rules": list(rules.values()),
            }
        },
        "automationDetails": {"id": f"auditcore/{report.audit_id}"},
        "results": [_result(outcome, list(rules).index(outcome.id), policy_file) for outcome in report.conditions],
        "properties": _properties(report),
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _rule(outcome: ConditionOutcome) -> dict[str, Any]:
    level = "error" if outcome.severity == "fail" else "warning"
    return {
        "id": outcome.id,
        "shortDescription": {"text": f"{outcome.check} {outcome.metric} {wanted_text(outcome)}"},
        "defaultConfiguration": {"level": level},
    }


def _result(outcome: ConditionOutcome, rule: int, policy_file: str | None) -> dict[str, Any]:
    kind, level = _KINDS[outcome.status]
    if level == "warning" and outcome.severity == "warn" and outcome.status != "warned":
        level = "note"
    name = result_name(outcome)
    location: dict[str, Any] = {
        "logicalLocations": [{"name": outcome.explainer or outcome.metric, "fullyQualifiedName": name}]
    }
    if policy_file is not None:
        location["physicalLocation"] = {"artifactLocation": {"uri": policy_file}, "region": {"startLine": 1}}
    return {
        "ruleId": outcome.id,
        "ruleIndex": rule,
        "kind": kind,
        "level": level,
        "message": {"text": f"{name}: {outcome.message}"},
        "locations": [location],
        # the same condition on the same number is the same finding in the next audit
        "partialFingerprints": {"condition/v1": digest_of([outcome.id, name])},
        "properties": {"status": outcome.status, "severity": outcome.severity, "images": outcome.n},
    }


def _properties(report: AuditReport) -> dict[str, Any]:
    models = {model.name or "model": model.digest for model in report.audited_models}
    policy = {} if report.policy is None else {"policy": report.policy.model_dump(mode="json")}
    return {
        "verdict": report.verdict,
        "verdictReason": report.verdict_reason,
        "models": models,
        "images": report.images.digest,
        "plan": report.manifest.plan_digest,
        **policy,
    }
