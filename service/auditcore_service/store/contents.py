"""What audits have made and loaded: their pictures, and the digests of their models' weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from sqlalchemy import Connection, insert, select, update

from auditcore_service.store.audit_inputs import AuditInput, insert_inputs
from auditcore_service.store.tables import AUDITS, PICTURES, SHARDS
from auditcore_service.store.tenancy import owned
from auditcore_service.store.transitions import TERMINAL


@final
@dataclass(frozen=True)
class AuditContents:
    """What a shard, or a whole audit, has made and loaded.

    Attributes:
        pictures: Digests of pictures.
        models: Digests of weights as loaded.
    """

    pictures: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()


NOTHING: Final = AuditContents()
"""Of a shard that draws nothing and loads nothing, such as the one that assembles the report."""


@final
@dataclass(frozen=True)
class UnlistedAudit:
    """An audit of an earlier release, whose contents only its results name.

    Attributes:
        id: Its id.
        ended: Whether it has ended.
        results: Digests of its results: of its report, or else of its shards.
    """

    id: str
    ended: bool
    results: tuple[str, ...]


def insert_contents(connection: Connection, audit_id: str, contents: AuditContents) -> None:
    """Add to the contents of an audit; what is listed already stays. The caller must hold the audit's lock."""
    listed = select(PICTURES.c.digest).where(PICTURES.c.audit_id == audit_id)
    new = sorted(contents.pictures - set(connection.execute(listed).scalars()))
    if new:
        connection.execute(insert(PICTURES), [{"audit_id": audit_id, "digest": digest} for digest in new])
    insert_inputs(connection, audit_id, [AuditInput("model", digest) for digest in contents.models])


def mark_listed(connection: Connection, audit_id: str) -> None:
    """Note that the contents of an audit are complete."""
    connection.execute(update(AUDITS).where(AUDITS.c.id == audit_id).values(contents_listed=True))


def unlisted_audits(connection: Connection) -> tuple[UnlistedAudit, ...]:
    """Audits whose contents are not known to be complete."""
    rows = connection.execute(
        select(AUDITS.c.id, AUDITS.c.state, AUDITS.c.report_digest).where(
            owned(connection, AUDITS), AUDITS.c.contents_listed.is_(False)
        )
    ).all()
    return tuple(
        UnlistedAudit(
            row.id,
            row.state in TERMINAL,
            _shard_results(connection, row.id) if row.report_digest is None else (row.report_digest,),
        )
        for row in rows
    )


def _shard_results(connection: Connection, audit_id: str) -> tuple[str, ...]:
    results = select(SHARDS.c.result_digest).where(SHARDS.c.audit_id == audit_id, SHARDS.c.result_digest.is_not(None))
    return tuple(connection.execute(results).scalars())
