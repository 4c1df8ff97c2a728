"""Report bytes: strict canonical JSON, so equal reports are equal files."""

from __future__ import annotations

from auditcore.contracts.canonical_json import canonical_json
from auditcore.contracts.report import AuditReport


def report_bytes(report: AuditReport) -> bytes:
    """RFC 8785 canonical JSON in UTF-8; no NaN, no infinity, keys in order."""
    return canonical_json(report)
