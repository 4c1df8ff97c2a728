"""Which audits, trainings or experiments a list shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from sqlalchemy import ColumnElement, Connection, select

from auditcore_service.store.tables import AUDIT_INPUTS, AUDIT_TAGS, AUDITS
from auditcore_service.store.tenancy import owned
from auditcore_service.store.transitions import AuditState, JobKind


@final
@dataclass(frozen=True)
class AuditFilter:
    """Every condition that is given must hold.

    Attributes:
        state: State of the audit.
        verdict: Verdict of its report.
        name: Its name, exactly.
        tags: Keys and values that it must have.
        model: Digest of one of its models: of the file that was pinned at submit, or of the weights as loaded.
        created_after: Submitted at this time or later, seconds since 1970.
        created_before: Submitted before this time, seconds since 1970.
        kind: Audits, trainings or experiments.
    """

    state: AuditState | None = None
    verdict: str | None = None
    name: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    model: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    kind: JobKind = "audit"

    def conditions(self, connection: Connection) -> list[ColumnElement[bool]]:
        """The conditions on the table of audits."""
        found = [
            column == wanted
            for column, wanted in (
                (AUDITS.c.kind, self.kind),
                (AUDITS.c.state, self.state),
                (AUDITS.c.verdict, self.verdict),
                (AUDITS.c.name, self.name),
            )
            if wanted is not None
        ]
        if self.created_after is not None:
            found.append(AUDITS.c.created_at >= self.created_after)
        if self.created_before is not None:
            found.append(AUDITS.c.created_at < self.created_before)
        for key, value in self.tags:
            tagged = select(AUDIT_TAGS.c.audit_id).where(
                owned(connection, AUDIT_TAGS), AUDIT_TAGS.c.key == key, AUDIT_TAGS.c.value == value
            )
            found.append(AUDITS.c.id.in_(tagged))
        if self.model is not None:
            about = select(AUDIT_INPUTS.c.audit_id).where(
                owned(connection, AUDIT_INPUTS), AUDIT_INPUTS.c.kind == "model", AUDIT_INPUTS.c.digest == self.model
            )
            found.append(AUDITS.c.id.in_(about))
        return found


EVERY_AUDIT: Final = AuditFilter()
"""Audits, without further condition."""
