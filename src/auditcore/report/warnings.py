"""Why numbers of a report say less than they seem to: every kind of warning, in one place."""

from __future__ import annotations

from collections.abc import Sequence

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import ReportWarning, Result


def warnings_of(plan: AuditPlan, results: Sequence[Result], controls: Sequence[Result]) -> tuple[ReportWarning, ...]:
    """Every warning that a plan and its results give.

    Args:
        plan: The plan in full.
        results: What the audit measured, of all models.
        controls: What tells how far the results can be trusted.
    """
    del plan, results, controls
    return ()
