"""Audits, trainings and experiments: written together with all their shards, and read with their progress."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, case, delete, func, insert, select, update

from auditcore_service.store.audit_filters import EVERY_AUDIT, AuditFilter
from auditcore_service.store.audit_inputs import AuditInput, insert_inputs
from auditcore_service.store.event_log import append_entry
from auditcore_service.store.events import append_event
from auditcore_service.store.experiment_files import forget_checkpoints
from auditcore_service.store.pages import after_position
from auditcore_service.store.records import Audit, Failure, NewShard, Progress, QueuedShard, ShardKey, Waiting
from auditcore_service.store.tables import AUDIT_TAGS, AUDITS, IDEMPOTENCY_KEYS, SHARDS
from auditcore_service.store.tenancy import owned, owner
from auditcore_service.store.transitions import SETTLED, TERMINAL, AuditState, JobKind, sources
from auditcore_service.store.webhook_deliveries import enqueue_audit_event

_LOGGED = frozenset({"verdict", "report_digest", "weights_digest", "error_code"})
"""Columns of an audit that the event log holds with a change of its state."""


def insert_audit(
    connection: Connection,
    *,
    audit_id: str,
    request: str,
    plan: str,
    images: int,
    shards: Sequence[NewShard],
    now: float,
    estimate: str | None = None,
    replay_of: str | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    inputs: Collection[AuditInput] = (),
    kind: JobKind = "audit",
) -> tuple[Audit, tuple[QueuedShard, ...]]:
    """Insert an audit, a training or an experiment, with all its shards.

    Returns:
        The audit, and the shards of the first wave, which are `queued`; the others are `pending`.
    """
    audit = Audit(
        id=audit_id,
        tenant=owner(connection),
        state="queued",
        request=request,
        plan=plan,
        images=images,
        created_at=now,
        started_at=None,
        finished_at=None,
        verdict=None,
        report_digest=None,
        failure=None,
        progress=Progress(done=0, total=len(shards), failed=0, fraction=0.0),
        estimate=estimate,
        replay_of=replay_of,
        name=name,
        tags=tuple(sorted((tags or {}).items())),
        kind=kind,
    )
    connection.execute(
        insert(AUDITS).values(
            id=audit_id,
            tenant=audit.tenant,
            kind=kind,
            state=audit.state,
            request=request,
            plan=plan,
            images=images,
            created_at=now,
            estimate=estimate,
            replay_of=replay_of,
            name=name,
            contents_listed=True,
        )
    )
    if audit.tags:
        tagged = {"audit_id": audit_id, "tenant": audit.tenant}
        connection.execute(insert(AUDIT_TAGS), [tagged | {"key": key, "value": value} for key, value in audit.tags])
    insert_inputs(connection, audit_id, inputs)
    first = min(shard.wave for shard in shards)
    connection.execute(
        insert(SHARDS),
        [
            {
                "audit_id": audit_id,
                "wave": shard.wave,
                "index": shard.index,
                "kind": shard.kind,
                "state": "queued" if shard.wave == first else "pending",
                "attempt": 0,
                "start": shard.start,
                "stop": shard.stop,
                "weight": shard.weight,
                "model": shard.model,
                "progress": 0.0,
                "queued_at": now if shard.wave == first else None,
            }
            for shard in shards
        ],
    )
    append_event(connection, audit_id, "state", _event_data(audit), now=now)
    return audit, tuple(
        QueuedShard(ShardKey(audit_id, shard.wave, shard.index), shard.kind) for shard in shards if shard.wave == first
    )


def find_audit(connection: Connection, audit_id: str, *, kind: JobKind | None = "audit") -> Audit | None:
    """Return an audit of the tenant, or None if there is none.

    Args:
        connection: An open transaction.
        audit_id: Its id.
        kind: What it has to be; None for any of them.
    """
    query = select(AUDITS).where(AUDITS.c.id == audit_id, owned(connection, AUDITS))
    row = connection.execute(query if kind is None else query.where(AUDITS.c.kind == kind)).one_or_none()
    if row is None:
        return None
    ids = [audit_id]
    return _audit(row, _progress(connection, ids), _tags(connection, ids), _waiting(connection, ids))


def find_training_of(connection: Connection, weights_digest: str) -> Audit | None:
    """The first training of the tenant that has made these weights; None if none has, or if it was deleted."""
    found = connection.execute(
        select(AUDITS.c.id)
        .where(AUDITS.c.weights_digest == weights_digest, AUDITS.c.kind == "training", owned(connection, AUDITS))
        .order_by(AUDITS.c.created_at, AUDITS.c.id)
        .limit(1)
    ).scalar_one_or_none()
    return None if found is None else find_audit(connection, found, kind="training")


def list_audits(
    connection: Connection, *, after: tuple[float, str] | None, limit: int, wanted: AuditFilter = EVERY_AUDIT
) -> tuple[Audit, ...]:
    """Return audits, trainings or experiments of the tenant, newest first.

    Args:
        connection: An open transaction.
        after: (created_at, id) of the last audit on the previous page.
        limit: Largest number of audits to return.
        wanted: Which of them.
    """
    query = select(AUDITS).where(owned(connection, AUDITS), *wanted.conditions(connection))
    query = query.order_by(AUDITS.c.created_at.desc(), AUDITS.c.id.desc()).limit(limit)
    query = query.where(after_position(AUDITS.c.created_at, AUDITS.c.id, after))
    rows = connection.execute(query).all()
    ids = [row.id for row in rows]
    progress, tags, waiting = _progress(connection, ids), _tags(connection, ids), _waiting(connection, ids)
    return tuple(_audit(row, progress, tags, waiting) for row in rows)


def lock_audit(connection: Connection, audit_id: str) -> AuditState | None:
    """State of an audit, which no other transaction can change until this one ends; None if there is none.

    Every transaction that changes an audit or its shards begins with this lock, so that "how many shards are left" has
    one answer. (SQLite's write transaction already holds the only lock and ignores FOR UPDATE.)
    """
    return connection.execute(
        select(AUDITS.c.state).where(AUDITS.c.id == audit_id, owned(connection, AUDITS)).with_for_update()
    ).scalar_one_or_none()


def move_audit(
    connection: Connection,
    audit_id: str,
    target: AuditState,
    *,
    now: float,
    values: Mapping[str, object] | None = None,
) -> bool:
    """Move an audit to a state if the table of transitions allows it.

    Args:
        connection: A write transaction that holds the audit's lock.
        audit_id: Of the audit.
        target: The new state.
        now: Seconds since 1970.
        values: Other columns to write.

    Returns:
        Whether it did.
    """
    changed = connection.execute(
        update(AUDITS)
        .where(AUDITS.c.id == audit_id, AUDITS.c.state.in_(sources(target)))
        .values(state=target, **(values or {}))
    ).rowcount
    if changed and target in TERMINAL:
        # nothing goes on from the checkpoints of what has ended
        checkpoints = update(SHARDS).where(SHARDS.c.audit_id == audit_id, SHARDS.c.kind == "train")
        connection.execute(checkpoints.values(result_digest=None))
        forget_checkpoints(connection, audit_id)
    if changed:
        append_state_event(connection, audit_id, now=now)
        data = {"state": target} | {name: value for name, value in (values or {}).items() if name in _LOGGED}
        tenant = connection.execute(select(AUDITS.c.tenant).where(AUDITS.c.id == audit_id)).scalar_one()
        append_entry(connection, "state", audit_id, data, now=now, tenant=tenant)
        enqueue_audit_event(connection, audit_id, target, now=now)
    return bool(changed)


def delete_audit(connection: Connection, audit_id: str) -> None:
    """Delete an audit with all its rows but its registration and evidence. The caller must hold its lock."""
    connection.execute(
        delete(IDEMPOTENCY_KEYS).where(owned(connection, IDEMPOTENCY_KEYS), IDEMPOTENCY_KEYS.c.audit_id == audit_id)
    )
    # shards, events, tags and the rest have foreign keys that cascade
    connection.execute(delete(AUDITS).where(owned(connection, AUDITS), AUDITS.c.id == audit_id))


def append_state_event(connection: Connection, audit_id: str, *, now: float, kind: str = "state") -> None:
    """Append an event with the state of the audit, for readers of the event stream."""
    audit = find_audit(connection, audit_id, kind=None)
    if audit is not None:
        append_event(connection, audit_id, kind, _event_data(audit), now=now)


def count_audits(connection: Connection, *, kind: JobKind = "audit") -> dict[str, int]:
    """Return the number of jobs of a kind by state."""
    counted = select(AUDITS.c.state, func.count().label("audits")).where(AUDITS.c.kind == kind)
    rows = connection.execute(counted.group_by(AUDITS.c.state))
    return {row.state: row.audits for row in rows}


def _event_data(audit: Audit) -> dict[str, object]:
    """Return the data of an event about an audit."""
    data: dict[str, object] = {
        "state": audit.state,
        "progress": {
            "done": audit.progress.done,
            "total": audit.progress.total,
            "failed": audit.progress.failed,
        },
        "fraction": audit.progress.fraction,
    }
    if audit.verdict is not None:
        data["verdict"] = audit.verdict
    if audit.failure is not None:
        data["error"] = {
            "code": audit.failure.code,
            "message": audit.failure.message,
            "field": audit.failure.field,
        }
    return data


def _progress(connection: Connection, audit_ids: Sequence[str]) -> dict[str, Progress]:
    settled = SHARDS.c.state.in_(SETTLED)
    done = case((settled, 1.0), else_=SHARDS.c.progress)
    rows = connection.execute(
        select(
            SHARDS.c.audit_id,
            func.count().label("total"),
            func.sum(case((settled, 1), else_=0)).label("done"),
            func.sum(case((SHARDS.c.state == "failed", 1), else_=0)).label("failed"),
            (func.sum(SHARDS.c.weight * done) / func.sum(SHARDS.c.weight)).label("fraction"),
        )
        .where(SHARDS.c.audit_id.in_(audit_ids))
        .group_by(SHARDS.c.audit_id)
    )
    return {
        row.audit_id: Progress(int(row.done), int(row.total), int(row.failed), round(float(row.fraction), 4))
        for row in rows
    }


def _tags(connection: Connection, audit_ids: Sequence[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    rows = connection.execute(
        select(AUDIT_TAGS.c.audit_id, AUDIT_TAGS.c.key, AUDIT_TAGS.c.value)
        .where(AUDIT_TAGS.c.audit_id.in_(audit_ids))
        .order_by(AUDIT_TAGS.c.key)
    )
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for row in rows:
        found[row.audit_id] = (*found.get(row.audit_id, ()), (row.key, row.value))
    return found


def _waiting(connection: Connection, audit_ids: Sequence[str]) -> dict[str, Waiting]:
    """What audits wait for: of each, the shard that may be claimed first among those that have to wait."""
    rows = connection.execute(
        select(SHARDS.c.audit_id, SHARDS.c.waiting_for, SHARDS.c.not_before)
        .where(SHARDS.c.audit_id.in_(audit_ids), SHARDS.c.state == "queued", SHARDS.c.not_before.is_not(None))
        .order_by(SHARDS.c.not_before.desc())
    )
    return {row.audit_id: Waiting(row.waiting_for or "retry", row.not_before) for row in rows}


def _audit(
    row: Row[Any],
    progress: Mapping[str, Progress],
    tags: Mapping[str, tuple[tuple[str, str], ...]],
    waiting: Mapping[str, Waiting],
) -> Audit:
    failure = None if row.error_code is None else Failure(row.error_code, row.error_message, row.error_field)
    return Audit(
        id=row.id,
        tenant=row.tenant,
        state=row.state,
        request=row.request,
        plan=row.plan,
        images=row.images,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        verdict=row.verdict,
        report_digest=row.report_digest,
        failure=failure,
        progress=progress[row.id],
        estimate=row.estimate,
        replay_of=row.replay_of,
        name=row.name,
        tags=tags.get(row.id, ()),
        waiting=waiting.get(row.id),
        kind=row.kind,
        weights_digest=row.weights_digest,
    )
