"""The command `gate`: a stored report against a policy, without a model and without images."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from auditcore.contracts.report import AuditReport
from auditcore.errors import InputError
from auditcore.report.gate import reevaluate
from auditcore.report.policy import conditions_of, policy_of
from auditcore_service.cli.given_files import read_report_file
from auditcore_service.cli.outcome import CommandError
from auditcore_service.cli.policies import conditions_in, read_policy


def judge_again(report: Path, *, policy: str | None, baseline: Path | None) -> AuditReport:
    """A report with the outcomes and the verdict of a policy.

    Args:
        report: File of the report.
        policy: File or name of the policy; None repeats the report's own conditions.
        baseline: File of the report that changes are relative to.

    Raises:
        CommandError: A file cannot be read, or the policy does not fit the report.
    """
    found = read_report_file(report)
    before = None if baseline is None else read_report_file(baseline)
    if policy is None and not found.conditions:
        message = f"{report} has no conditions of its own; give a policy with --policy, such as --policy quick-look"
        raise CommandError(message)
    given = conditions_of(found) if policy is None else read_policy(policy)
    try:
        judged = reevaluate(found, conditions_in(given), baseline=before)
    except InputError as error:
        message = f"the policy does not fit {report}"
        raise CommandError(message, errors=[(error.field, error.message)], code=error.code) from error
    return judged if policy is None else judged.model_copy(update={"policy": policy_of(given)})


def relative_uri(given: str | None) -> str | None:
    """The file of a policy as a URI relative to the working folder; None if it is no file below it."""
    path = None if given is None else Path(given)
    if path is None or not path.is_file() or not path.resolve().is_relative_to(Path.cwd()):
        return None
    return quote(path.resolve().relative_to(Path.cwd()).as_posix())
