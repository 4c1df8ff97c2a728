"""What audits name by a digest: models, image batches, files of maps, and baselines."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, final

from sqlalchemy import Connection, insert, select

from auditcore_service.store.tables import AUDIT_INPUTS, AUDITS
from auditcore_service.store.tenancy import owned
from auditcore_service.store.transitions import TERMINAL

InputKind = Literal["model", "batch", "maps", "baseline"]


@final
@dataclass(frozen=True, order=True)
class AuditInput:
    """One thing that an audit names.

    Attributes:
        kind: `model`: a file of weights or an archive as it was pinned, or a model as it was loaded; `baseline`: the
            report that conditions compare with.
        digest: Its digest.
    """

    kind: InputKind
    digest: str


def insert_inputs(connection: Connection, audit_id: str, inputs: Collection[AuditInput]) -> None:
    """Add to what an audit names; what is listed already stays. The caller must hold the audit's lock."""
    rows = connection.execute(
        select(AUDIT_INPUTS.c.kind, AUDIT_INPUTS.c.digest).where(AUDIT_INPUTS.c.audit_id == audit_id)
    )
    new = sorted(set(inputs) - {AuditInput(row.kind, row.digest) for row in rows})
    if new:
        # the owner is that of the audit, also where a worker adds
        tenant = connection.execute(select(AUDITS.c.tenant).where(AUDITS.c.id == audit_id)).scalar_one()
        values = [{"audit_id": audit_id, "tenant": tenant, "kind": one.kind, "digest": one.digest} for one in new]
        connection.execute(insert(AUDIT_INPUTS), values)


def find_unfinished_user(connection: Connection, used: AuditInput) -> str | None:
    """Id of an audit that has not ended and names something; None if there is none."""
    return connection.execute(
        select(AUDITS.c.id)
        .join(AUDIT_INPUTS, AUDIT_INPUTS.c.audit_id == AUDITS.c.id)
        .where(
            owned(connection, AUDIT_INPUTS),
            AUDIT_INPUTS.c.kind == used.kind,
            AUDIT_INPUTS.c.digest == used.digest,
            AUDITS.c.state.not_in(TERMINAL),
        )
        .order_by(AUDITS.c.created_at)
        .limit(1)
    ).scalar_one_or_none()
