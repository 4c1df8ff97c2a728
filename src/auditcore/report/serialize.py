"""Serialize reports as strict canonical JSON: equal reports are equal files."""

from __future__ import annotations

from auditcore.contracts.canonical_json import canonical_json
from auditcore.contracts.report import AuditReport


def report_bytes(report: AuditReport) -> bytes:
    """Return RFC 8785 canonical JSON in UTF-8: no NaN, no infinity, sorted keys."""
    return canonical_json(report)
