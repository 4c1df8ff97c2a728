"""Run an audit again, and compare both reports."""

from __future__ import annotations

from typing import final

from auditcore.contracts.request import AuditRequest
from auditcore.evidence.replay import ReplayComparison, compare_replay
from auditcore_service.principals import Principal
from auditcore_service.store.records import Audit
from auditcore_service.use_cases.audits import Audits
from auditcore_service.use_cases.refusals import NotReplayed, ReportNotReady


@final
class Replays:
    """The use cases."""

    def __init__(self, *, audits: Audits) -> None:
        self._audits = audits

    def start(self, principal: Principal, audit_id: str) -> Audit:
        """Submit the request of an audit again, with its models as they were pinned.

        Raises:
            NotFound: There is no such audit.
            ReportNotReady: It has no report to compare with, yet or ever.
            InputError: The request can no longer be carried out, such as with a model that has changed.
            BudgetExceeded: It would cost more than the operator allows, or more than its tenant may submit in a day.
            QuotaExceeded: Nothing is left of a limit of its tenant.
        """
        audit = self._audits.get(principal, audit_id)
        if audit.report_digest is None:
            msg = f"audit {audit_id} has no report to compare a replay with; replay one whose state is `succeeded`"
            raise ReportNotReady(msg)
        return self._audits.submit(principal, AuditRequest.model_validate_json(audit.request), replay_of=audit_id)

    def compare(self, principal: Principal, audit_id: str, *, tolerance: float) -> ReplayComparison:
        """Compare the report of a replay with that of its original.

        Raises:
            NotFound: There is no such audit.
            NotReplayed: The audit is no replay.
            ReportNotReady: It has no report, yet or ever.
        """
        original = self._audits.get(principal, audit_id).replay_of
        if original is None:
            msg = f"audit {audit_id} is no replay; start one with POST /v1/audits/{audit_id}/replay, and ask for its id"
            raise NotReplayed(msg)
        return compare_replay(
            self._audits.report(principal, original), self._audits.report(principal, audit_id), tolerance=tolerance
        )
