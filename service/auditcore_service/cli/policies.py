"""Policies as commands take them: a file, or the name of one that comes with auditcore. And their linter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from auditcore.contracts.plan import AuditPlan, PlanRequest
from auditcore.contracts.policy import Condition, Policy
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.policy_lint import LintFinding, lint, lint_document
from auditcore.contracts.presets import plan_for_models
from auditcore.contracts.shipped_policies import shipped_policies
from auditcore.errors import InputError
from auditcore_service.cli.inputs import read_json
from auditcore_service.cli.outcome import CommandError, mistakes

_CONDITIONS: TypeAdapter[tuple[Condition, ...]] = TypeAdapter(Policy)
_PLANS: TypeAdapter[PlanRequest] = TypeAdapter(PlanRequest)


def read_policy(given: str) -> PolicyDocument | tuple[Condition, ...]:
    """The policy in a file or among those that come with auditcore.

    Args:
        given: Path of a file with a policy document or a list of conditions; or a name, such as `quick-look`, with or
            without a version.

    Raises:
        CommandError: There is no such file and no such policy, or the file holds no valid policy.
    """
    path = Path(given)
    if not path.is_file():
        return _shipped(given)
    document = read_json(path)
    try:
        if isinstance(document, list):
            return _CONDITIONS.validate_python(document)
        return PolicyDocument.model_validate(document)
    except ValidationError as error:
        message = f"{path} is not a valid policy: a document with name, version and conditions, or a list of conditions"
        raise CommandError(message, errors=mistakes(error.errors(), document), code="invalid_request") from error


def shipped_document(name: str) -> PolicyDocument:
    """A policy that comes with auditcore.

    Raises:
        CommandError: There is none of this name.
    """
    found = next((one for one in shipped_policies() if name in {one.name, one.label}), None)
    if found is None:
        known = ", ".join(one.name for one in shipped_policies())
        message = f"no policy of auditcore is called {name!r}; its policies are: {known}"
        raise CommandError(message)
    return found


def conditions_in(policy: PolicyDocument | tuple[Condition, ...]) -> tuple[Condition, ...]:
    """The conditions of a policy with or without a name."""
    return policy.conditions if isinstance(policy, PolicyDocument) else policy


def lint_policy(given: str, plan: Path | None) -> tuple[LintFinding, ...]:
    """What a policy lets pass that it probably should not.

    Args:
        given: A file or a name, as `read_policy` takes it.
        plan: Request file whose plan the policy has to fit; None looks only at the policy.

    Raises:
        CommandError: The policy or the plan cannot be read.
    """
    policy = read_policy(given)
    for_plan = None if plan is None else _read_plan(plan)
    return lint_document(policy, for_plan) if isinstance(policy, PolicyDocument) else lint(policy, for_plan)


def show_findings(findings: Sequence[LintFinding], console: Console) -> None:
    """Print the findings, one a line, or that there are none."""
    for finding in findings:
        console.print(f"{finding.field}: {finding.message} ({finding.code})", highlight=False, markup=False)
    if not findings:
        console.print("no findings", highlight=False)


def _shipped(given: str) -> PolicyDocument:
    try:
        return shipped_document(given)
    except CommandError as error:
        message = f"there is no file {given}, and {error.message}"
        raise CommandError(message) from error


def _read_plan(path: Path) -> AuditPlan:
    """The plan in a request file, or in a file with only a plan."""
    document = read_json(path)
    request = document if isinstance(document, dict) else {}
    plan = request.get("plan", document)
    named = request.get("models")
    models = [str(one.get("name")) for one in named if isinstance(one, dict)] if isinstance(named, list) else []
    try:
        return plan_for_models(_PLANS.validate_python(plan), models)
    except ValidationError as error:
        message = f"{path} holds no valid plan"
        raise CommandError(message, errors=mistakes(error.errors(), plan), code="invalid_request") from error
    except InputError as error:
        message = f"{path} holds no valid plan"
        raise CommandError(message, errors=[(error.field, error.message)], code=error.code) from error
