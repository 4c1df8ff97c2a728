"""The life of a shard: claimed under a lease, kept by heartbeats, completed once.

The protocol is the same for measuring, computing and assembling. Each function is one transaction and begins by locking
the audit. `Step.opened` lists the shards to announce after the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, update

from auditcore_service.store.audits import append_state_event, lock_audit, move_audit
from auditcore_service.store.contents import NOTHING, AuditContents, insert_contents
from auditcore_service.store.event_log import append_entry
from auditcore_service.store.records import Failure, QueuedShard, Shard, ShardKey, Step
from auditcore_service.store.tables import AUDITS, SHARDS
from auditcore_service.store.transitions import ACTIVE, shard_sources

_STALE = Step(applied=False)


def claim_shard(
    connection: Connection, key: ShardKey, *, now: float, lease_s: float, max_attempts: int
) -> Shard | None:
    """Claim a queued shard, or a running one whose lease has expired.

    Returns:
        The shard with its new attempt number; None when it cannot be claimed, because it is done, cancelled, running
        elsewhere or out of attempts. A duplicate delivery ends here.
    """
    if lock_audit(connection, key.audit_id) not in ACTIVE:
        return None
    claimed = connection.execute(
        update(SHARDS)
        .where(
            _is(key),
            SHARDS.c.attempt < max_attempts,
            or_(
                SHARDS.c.state == "queued",
                and_(SHARDS.c.state == "running", SHARDS.c.lease_until < now),
            ),
        )
        .values(state="running", attempt=SHARDS.c.attempt + 1, lease_until=now + lease_s, progress=0.0)
    ).rowcount
    if not claimed:
        return None
    connection.execute(
        update(AUDITS).where(AUDITS.c.id == key.audit_id, AUDITS.c.started_at.is_(None)).values(started_at=now)
    )
    move_audit(connection, key.audit_id, "running", now=now)
    return get_shard(connection, key)


def beat_shard(
    connection: Connection, key: ShardKey, *, attempt: int, progress: float, now: float, lease_s: float
) -> bool:
    """Extend the lease and store progress.

    Returns:
        Whether to continue: False if the audit was cancelled or failed, or if another worker has taken over.
    """
    if lock_audit(connection, key.audit_id) not in ACTIVE:
        return False
    before = connection.execute(select(SHARDS.c.progress).where(_mine(key, attempt))).scalar_one_or_none()
    if before is None:
        return False
    connection.execute(update(SHARDS).where(_mine(key, attempt)).values(lease_until=now + lease_s, progress=progress))
    if progress != before:
        append_state_event(connection, key.audit_id, now=now, kind="progress")
    return True


def complete_shard(
    connection: Connection,
    key: ShardKey,
    *,
    attempt: int,
    result_digest: str,
    now: float,
    verdict: str | None = None,
    contents: AuditContents = NOTHING,
) -> Step:
    """Store a result if the caller still owns the shard, and open the next wave if it was the last missing result.

    Args:
        connection: A write transaction.
        key: The shard.
        attempt: The attempt number from `claim_shard`.
        result_digest: Digest of the result; for the last wave, of the report.
        now: Seconds since 1970.
        verdict: The report's verdict, for the last wave.
        contents: What the shard has made and loaded.
    """
    state = lock_audit(connection, key.audit_id)
    done = connection.execute(
        update(SHARDS)
        .where(_mine(key, attempt))
        .values(state="done", progress=1.0, lease_until=None, result_digest=result_digest, error=None)
    ).rowcount
    if not done:
        return _STALE
    insert_contents(connection, key.audit_id, contents)
    if state not in ACTIVE:
        _settle_cancelled(connection, key.audit_id, now=now)
        return Step(applied=True)
    # skipping shards of a wave also opens the next one, so skipped shards need no handling here
    left = _count(connection, SHARDS.c.audit_id == key.audit_id, SHARDS.c.wave == key.wave, SHARDS.c.state != "done")
    opened = _open_wave(connection, key.audit_id, key.wave + 1, now=now) if left == 0 else ()
    if left == 0 and not opened:
        values = {"verdict": verdict, "report_digest": result_digest, "finished_at": now}
        move_audit(connection, key.audit_id, "succeeded", now=now, values=values)
    else:
        append_state_event(connection, key.audit_id, now=now, kind="progress")
    return Step(applied=True, opened=opened)


def skip_rest(connection: Connection, audit_id: str, *, wave: int, start: int, now: float) -> Step:
    """End a wave early, because a stop rule needs no image at or after `start`, and open the next wave.

    This is idempotent: once the wave is over, nothing changes. Workers that are busy with a skipped shard no longer own
    it.

    Args:
        connection: A write transaction.
        audit_id: The audit.
        wave: The wave whose shards are skipped.
        start: First image, in the order of the wave, that is no longer needed.
        now: Seconds since 1970.

    Returns:
        A step that is not applied if the audit is no longer active, or if a shard before `start` is not done.
    """
    if lock_audit(connection, audit_id) not in ACTIVE:
        return _STALE
    own = and_(SHARDS.c.audit_id == audit_id, SHARDS.c.wave == wave)
    if _count(connection, own, SHARDS.c.start < start, SHARDS.c.state != "done"):
        return _STALE
    skipped = connection.execute(
        update(SHARDS)
        .where(own, SHARDS.c.start >= start, SHARDS.c.state.in_(shard_sources("skipped")))
        .values(state="skipped", lease_until=None)
    ).rowcount
    if not skipped:
        return _STALE
    return Step(applied=True, opened=_open_wave(connection, audit_id, wave + 1, now=now))


def release_shard(
    connection: Connection, key: ShardKey, *, attempt: int, error: str, failure: Failure, now: float, max_attempts: int
) -> Step:
    """Release a shard after an unexpected error: queue it again, or fail its audit after the last attempt.

    Args:
        connection: A write transaction.
        key: The shard.
        attempt: The attempt number from `claim_shard`.
        error: Stored with the shard, for the operator.
        failure: Failure of the audit if no attempt is left.
        now: Seconds since 1970.
        max_attempts: As in `claim_shard`.
    """
    state = lock_audit(connection, key.audit_id)
    shard = connection.execute(select(SHARDS).where(_mine(key, attempt))).one_or_none()
    if shard is None:
        return _STALE
    if state not in ACTIVE:
        return abandon_shard(connection, key, attempt=attempt, now=now)
    if attempt >= max_attempts:
        return fail_audit(connection, key, attempt=attempt, failure=failure, now=now, error=error)
    _requeue(connection, key, error=error, now=now)
    return Step(applied=True, opened=(QueuedShard(key, shard.kind),))


def fail_audit(
    connection: Connection, key: ShardKey, *, attempt: int, failure: Failure, now: float, error: str | None = None
) -> Step:
    """Fail the whole audit because of one shard: the input cannot be used, or no attempt is left.

    Args:
        connection: A write transaction.
        key: The shard.
        attempt: The attempt number that `claim_shard` gave.
        failure: What the client sees.
        now: Seconds since 1970.
        error: Error stored with the shard, for the operator; the client's message if None.
    """
    state = lock_audit(connection, key.audit_id)
    failed = connection.execute(
        update(SHARDS)
        .where(_mine(key, attempt))
        .values(state="failed", lease_until=None, error=_storable(error or failure.message))
    ).rowcount
    if not failed:
        return _STALE
    if state not in ACTIVE:
        _settle_cancelled(connection, key.audit_id, now=now)
        return Step(applied=True)
    _cancel_waiting(connection, key.audit_id)
    values = {
        "error_code": failure.code,
        "error_message": _storable(failure.message),
        "error_field": failure.field,
        "finished_at": now,
    }
    move_audit(connection, key.audit_id, "failed", now=now, values=values)
    return Step(applied=True)


def abandon_shard(connection: Connection, key: ShardKey, *, attempt: int, now: float) -> Step:
    """Cancel a running shard whose audit no longer needs it."""
    lock_audit(connection, key.audit_id)
    stopped = connection.execute(
        update(SHARDS).where(_mine(key, attempt)).values(state="cancelled", lease_until=None)
    ).rowcount
    _settle_cancelled(connection, key.audit_id, now=now)
    return Step(applied=bool(stopped))


def cancel_audit(connection: Connection, audit_id: str, *, now: float, principal: str | None = None) -> bool:
    """Cancel an audit: immediately if no worker is busy with it, else when the workers notice.

    Args:
        connection: A write transaction of the tenant.
        audit_id: Of the audit.
        now: Seconds since 1970.
        principal: Who asks for it, if they have a name.

    Returns:
        Whether anything changed; a finished audit is not changed, and cancelling twice changes nothing.
    """
    if lock_audit(connection, audit_id) not in ACTIVE:
        return False
    _cancel_waiting(connection, audit_id)
    append_entry(connection, "cancel", audit_id, {}, now=now, principal=principal)
    if _count(connection, SHARDS.c.audit_id == audit_id, SHARDS.c.state == "running"):
        return move_audit(connection, audit_id, "cancelling", now=now)
    return move_audit(connection, audit_id, "cancelled", now=now, values={"finished_at": now})


def get_shard(connection: Connection, key: ShardKey) -> Shard:
    """Return a shard, which must exist."""
    return _shard(connection.execute(select(SHARDS).where(_is(key))).one())


def list_shards(connection: Connection, audit_id: str) -> tuple[Shard, ...]:
    """Return all shards of an audit, by wave and index."""
    rows = connection.execute(
        select(SHARDS).where(SHARDS.c.audit_id == audit_id).order_by(SHARDS.c.wave, SHARDS.c.index)
    )
    return tuple(_shard(row) for row in rows)


def count_shards(connection: Connection) -> dict[str, int]:
    """Return the number of shards by state."""
    rows = connection.execute(select(SHARDS.c.state, func.count().label("shards")).group_by(SHARDS.c.state))
    return {row.state: row.shards for row in rows}


def oldest_queued(connection: Connection) -> float | None:
    """Return when the longest waiting shard was queued, seconds since 1970; None if no shard waits."""
    return connection.execute(
        select(func.min(SHARDS.c.queued_at)).where(SHARDS.c.state == "queued")
    ).scalar_one_or_none()


def waiting_shards(connection: Connection, *, limit: int, max_attempts: int) -> tuple[QueuedShard, ...]:
    """Shards that a worker can claim now: those that end an audit first, then those that have waited longest.

    Args:
        connection: Any transaction.
        limit: Most shards to return.
        max_attempts: As in `claim_shard`. A shard that has used up its attempts must not hide those behind it.
    """
    rows = connection.execute(
        select(SHARDS)
        .join(AUDITS, AUDITS.c.id == SHARDS.c.audit_id)
        .where(SHARDS.c.state == "queued", SHARDS.c.attempt < max_attempts, AUDITS.c.state.in_(ACTIVE))
        .order_by(SHARDS.c.kind != "assemble", SHARDS.c.queued_at, SHARDS.c.audit_id, SHARDS.c.wave, SHARDS.c.index)
        .limit(limit)
    )
    return tuple(QueuedShard(_key(row), row.kind) for row in rows)


def count_waiting(connection: Connection, *, kinds: Sequence[str]) -> int:
    """Number of shards of these kinds that are queued, of audits that want them."""
    return connection.execute(
        select(func.count())
        .select_from(SHARDS)
        .join(AUDITS, AUDITS.c.id == SHARDS.c.audit_id)
        .where(SHARDS.c.state == "queued", SHARDS.c.kind.in_(kinds), AUDITS.c.state.in_(ACTIVE))
    ).scalar_one()


def silent_shards(connection: Connection, *, now: float) -> tuple[tuple[ShardKey, int], ...]:
    """Return running shards whose lease has expired, with their attempt."""
    rows = connection.execute(
        select(SHARDS).where(SHARDS.c.state == "running", SHARDS.c.lease_until < now).order_by(SHARDS.c.lease_until)
    )
    return tuple((_key(row), row.attempt) for row in rows)


def take_over_silent(
    connection: Connection, key: ShardKey, *, attempt: int, now: float, failure: Failure, max_attempts: int
) -> Step:
    """Release a shard whose worker's lease has expired, unless the worker has renewed it since."""
    lock_audit(connection, key.audit_id)
    lease = connection.execute(select(SHARDS.c.lease_until).where(_mine(key, attempt))).scalar_one_or_none()
    if lease is None or lease >= now:
        return _STALE
    return release_shard(
        connection,
        key,
        attempt=attempt,
        error="the worker went silent",
        failure=failure,
        now=now,
        max_attempts=max_attempts,
    )


def announce_again(
    connection: Connection, *, now: float, queued_before: float, kinds: Sequence[str]
) -> tuple[QueuedShard, ...]:
    """Return queued shards whose message may be lost, to announce them again, and reset their waiting time."""
    rows = connection.execute(
        select(SHARDS)
        .join(AUDITS, AUDITS.c.id == SHARDS.c.audit_id)
        .where(
            SHARDS.c.state == "queued",
            SHARDS.c.queued_at < queued_before,
            SHARDS.c.kind.in_(kinds),
            AUDITS.c.state.in_(ACTIVE),
        )
        .order_by(SHARDS.c.queued_at)
    ).all()
    shards = tuple(QueuedShard(_key(row), row.kind) for row in rows)
    for shard in shards:
        connection.execute(update(SHARDS).where(_is(shard.key), SHARDS.c.state == "queued").values(queued_at=now))
    return shards


def _open_wave(connection: Connection, audit_id: str, wave: int, *, now: float) -> tuple[QueuedShard, ...]:
    waiting = and_(SHARDS.c.audit_id == audit_id, SHARDS.c.wave == wave, SHARDS.c.state == "pending")
    rows = connection.execute(select(SHARDS).where(waiting).order_by(SHARDS.c.index)).all()
    if not rows:
        return ()
    connection.execute(update(SHARDS).where(waiting).values(state="queued", queued_at=now))
    if any(row.kind == "assemble" for row in rows):
        move_audit(connection, audit_id, "finalizing", now=now)
    return tuple(QueuedShard(_key(row), row.kind) for row in rows)


def _requeue(connection: Connection, key: ShardKey, *, error: str, now: float) -> None:
    connection.execute(
        update(SHARDS)
        .where(_is(key), SHARDS.c.state.in_(shard_sources("queued")))
        .values(state="queued", queued_at=now, lease_until=None, progress=0.0, error=_storable(error))
    )


def _storable(text: str) -> str:
    """Replace characters that cannot be stored: PostgreSQL has no null characters, and UTF-8 no lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _cancel_waiting(connection: Connection, audit_id: str) -> None:
    connection.execute(
        update(SHARDS)
        .where(SHARDS.c.audit_id == audit_id, SHARDS.c.state.in_(("pending", "queued")))
        .values(state="cancelled")
    )


def _settle_cancelled(connection: Connection, audit_id: str, *, now: float) -> None:
    if lock_audit(connection, audit_id) != "cancelling":
        return
    if not _count(connection, SHARDS.c.audit_id == audit_id, SHARDS.c.state == "running"):
        move_audit(connection, audit_id, "cancelled", now=now, values={"finished_at": now})


def _is(key: ShardKey) -> ColumnElement[bool]:
    return and_(SHARDS.c.audit_id == key.audit_id, SHARDS.c.wave == key.wave, SHARDS.c.index == key.index)


def _mine(key: ShardKey, attempt: int) -> ColumnElement[bool]:
    return and_(_is(key), SHARDS.c.state == "running", SHARDS.c.attempt == attempt)


def _count(connection: Connection, *conditions: ColumnElement[bool]) -> int:
    return connection.execute(select(func.count()).select_from(SHARDS).where(*conditions)).scalar_one()


def _key(row: Row[Any]) -> ShardKey:
    # a column called `index` hides behind tuple.index, so rows are read as mappings
    values = row._mapping  # noqa: SLF001 - the documented accessor, in spite of its underscore
    return ShardKey(values["audit_id"], values["wave"], values["index"])


def _shard(row: Row[Any]) -> Shard:
    return Shard(
        key=_key(row),
        kind=row.kind,
        state=row.state,
        attempt=row.attempt,
        start=row.start,
        stop=row.stop,
        progress=row.progress,
        lease_until=row.lease_until,
        result_digest=row.result_digest,
        error=row.error,
        model=row.model,
    )
