"""The life of a shard: claimed under a lease, kept by heartbeats, completed once.

The protocol is the same for measuring, computing and assembling. Each function is one transaction and begins by locking
the audit. `Step.opened` lists the shards to announce after the commit.

A claim gives a shard its next attempt number. Whatever the claimant does later counts only while the shard is still
`running` under that number, so that a worker that was silent for too long changes nothing. The number limits nothing.
What a shard has used up is counted by cause:

- *Faults* are its own: its computation failed, or took too long. After some of them its audit fails.
- *Losses*: its worker went silent, and nobody knows why. More of them are allowed, and progress forgives them.
- *Deaths*: an image ended the process that computed. The shard is divided until the image is known, which is left out.
- *Postponements* are the environment's: a database, a disk or a server that is away, or a worker that is told to stop.
  They are never held against the audit, except that what the request itself names may be away only for a while.

Every shard that comes back waits, longer from time to time, and cannot be claimed before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, or_, select, update

from auditcore_service.store.audits import append_state_event, lock_audit, move_audit
from auditcore_service.store.contents import NOTHING, AuditContents, insert_contents
from auditcore_service.store.event_log import append_entry
from auditcore_service.store.records import Failure, QueuedShard, Shard, ShardKey, Step
from auditcore_service.store.tables import AUDITS, SHARDS
from auditcore_service.store.transitions import ACTIVE, shard_sources
from auditcore_service.waits import LONGEST_WAIT_S, Backoff

_STALE = Step(applied=False)

DEATHS_BEFORE_DIVISION = 2
"""Deaths after which a shard of several images is divided: one may have had another cause."""

MOST_LEFT_OUT = 3
"""Images of an audit that may be left out. If more of them end the process, the images are not what is wrong."""


@final
@dataclass(frozen=True)
class Lease:
    """The lease of a running shard.

    Attributes:
        key: The shard.
        attempt: Under which attempt number it runs.
        until: When it runs out, seconds since 1970 by the clock of the database.
    """

    key: ShardKey
    attempt: int
    until: float


def claimable(now: float) -> ColumnElement[bool]:
    """Condition of a shard that a worker may claim: it is queued, and its wait is over.

    Args:
        now: Seconds since 1970.
    """
    return and_(
        SHARDS.c.state == "queued",
        or_(
            SHARDS.c.not_before.is_(None),
            SHARDS.c.not_before <= now,
            # the clock has been set back since
            SHARDS.c.not_before > now + LONGEST_WAIT_S,
        ),
    )


def in_place() -> tuple[ColumnElement[Any], ...]:
    """The order of the shards of an audit, by wave and index; parts of a shard are where the shard was."""
    return SHARDS.c.wave, func.coalesce(SHARDS.c.origin, SHARDS.c.index), SHARDS.c.start


def claim_shard(connection: Connection, key: ShardKey, *, now: float, lease_s: float) -> Shard | None:
    """Claim a queued shard whose wait is over.

    Returns:
        The shard with its new attempt number; None when it cannot be claimed, because it is done, cancelled, running,
        or has to wait.
    """
    if lock_audit(connection, key.audit_id) not in ACTIVE:
        return None
    claimed = connection.execute(
        update(SHARDS)
        .where(_is(key), claimable(now))
        .values(
            state="running",
            attempt=SHARDS.c.attempt + 1,
            lease_until=now + lease_s,
            progress=0.0,
            not_before=None,
            waiting_for=None,
        )
    ).rowcount
    if not claimed:
        return None
    connection.execute(update(AUDITS).where(AUDITS.c.id == key.audit_id).values(served_at=now))
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
    report_digest: str | None = None,
    weights_digest: str | None = None,
    contents: AuditContents = NOTHING,
) -> Step:
    """Store a result if the caller still owns the shard, and open the next wave if it was the last missing result.

    Of a training only the last checkpoint is kept.

    Args:
        connection: A write transaction.
        key: The shard.
        attempt: The attempt number from `claim_shard`.
        result_digest: Digest of the result; for the last wave, of the report.
        now: Seconds since 1970.
        verdict: The report's verdict, for the last wave.
        report_digest: Digest of the report, for the last wave, if the result is something else.
        weights_digest: Digest of the weights that were made, for the last wave.
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
    _forget_checkpoints(connection, key)
    if state not in ACTIVE:
        _settle_cancelled(connection, key.audit_id, now=now)
        return Step(applied=True)
    # skipping shards of a wave also opens the next one, so skipped shards need no handling here
    left = _count(connection, SHARDS.c.audit_id == key.audit_id, SHARDS.c.wave == key.wave, SHARDS.c.state != "done")
    opened = _open_wave(connection, key.audit_id, key.wave + 1, now=now) if left == 0 else ()
    if left == 0 and not opened:
        values = {"verdict": verdict, "report_digest": report_digest or result_digest, "finished_at": now}
        if weights_digest is not None:
            values["weights_digest"] = weights_digest
        move_audit(connection, key.audit_id, "succeeded", now=now, values=values)
    else:
        append_state_event(connection, key.audit_id, now=now, kind="progress")
    return Step(applied=True, opened=opened)


def complete_part(
    connection: Connection,
    key: ShardKey,
    *,
    attempt: int,
    stop: int,
    result_digest: str,
    now: float,
    lease_s: float,
    contents: AuditContents = NOTHING,
) -> Step:
    """Store the result of the first images of a shard that the caller still owns, and let the caller keep the rest.

    The images that are done become a shard of their own, which is done; the shard itself shrinks. It has made progress,
    so losses and postponements are forgiven. The steps that are done of a training are one shard, which grows: its
    result is the newest checkpoint, and only that is kept.

    Args:
        connection: A write transaction.
        key: The shard.
        attempt: The attempt number from `claim_shard`.
        stop: One past the last image that is done; inside the shard.
        result_digest: Digest of the result of the images that are done.
        now: Seconds since 1970.
        lease_s: The lease of the rest.
        contents: What the part has made and loaded.
    """
    state = lock_audit(connection, key.audit_id)
    shard = connection.execute(select(SHARDS).where(_mine(key, attempt))).one_or_none()
    if shard is None:
        return _STALE
    insert_contents(connection, key.audit_id, contents)
    if state not in ACTIVE:
        abandon_shard(connection, key, attempt=attempt, now=now)
        return _STALE
    if stop <= shard.start:  # an earlier try was committed, and its answer was lost
        return Step(applied=True)
    done = shard.weight * (stop - shard.start) / (shard.stop - shard.start)
    if shard.kind != "train" or not _grow_part(connection, shard, stop=stop, weight=done, result_digest=result_digest):
        _insert_part(
            connection,
            shard,
            start=shard.start,
            stop=stop,
            weight=done,
            state="done",
            progress=1.0,
            result_digest=result_digest,
        )
    connection.execute(
        update(SHARDS)
        .where(_is(key))
        .values(
            start=stop,
            weight=shard.weight - done,
            progress=0.0,
            lease_until=now + lease_s,
            losses=0,
            postponements=0,
            postponed_since=None,
        )
    )
    append_state_event(connection, key.audit_id, now=now, kind="progress")
    return Step(applied=True)


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
    connection: Connection,
    key: ShardKey,
    *,
    attempt: int,
    error: str,
    failure: Failure,
    now: float,
    max_attempts: int,
    backoff: Backoff,
) -> Step:
    """Release a shard after a fault of its own: queue it again, or fail its audit if it has had too many.

    Args:
        connection: A write transaction.
        key: The shard.
        attempt: The attempt number from `claim_shard`.
        error: Stored with the shard, for the operator.
        failure: Failure of the audit if this was the last fault allowed.
        now: Seconds since 1970.
        max_attempts: Faults after which the audit fails.
        backoff: How long the shard waits.
    """
    shard = _owned(connection, key, attempt)
    if shard is None or not _is_wanted(connection, key, attempt, now=now):
        return Step(applied=shard is not None)
    faults = shard.faults + 1
    if faults >= max_attempts:
        connection.execute(update(SHARDS).where(_is(key)).values(faults=faults))
        return fail_audit(connection, key, attempt=attempt, failure=failure, now=now, error=error)
    return _requeue(connection, shard, error=error, now=now, not_before=now + backoff.wait_s(faults), faults=faults)


def postpone_shard(
    connection: Connection,
    key: ShardKey,
    *,
    attempt: int,
    waiting_for: str,
    error: str,
    now: float,
    backoff: Backoff,
    patience_s: float | None = None,
    failure: Failure | None = None,
) -> Step:
    """Queue a shard again because of the environment. This costs the audit nothing but time.

    Args:
        connection: A write transaction.
        key: The shard.
        attempt: The attempt number from `claim_shard`.
        waiting_for: What of the environment was the cause, for the client.
        error: Stored with the shard, for the operator.
        now: Seconds since 1970.
        backoff: How long the shard waits.
        patience_s: How long the cause may last, from the first postponement on; for ever if None.
        failure: Failure of the audit once `patience_s` is over.
    """
    shard = _owned(connection, key, attempt)
    if shard is None or not _is_wanted(connection, key, attempt, now=now):
        return Step(applied=shard is not None)
    since = now if shard.postponed_since is None or shard.postponed_since > now else shard.postponed_since
    if patience_s is not None and failure is not None and now - since >= patience_s:
        return fail_audit(connection, key, attempt=attempt, failure=failure, now=now, error=error)
    times = shard.postponements + 1
    return _requeue(
        connection,
        shard,
        error=error,
        now=now,
        not_before=now + backoff.wait_s(times),
        postponements=times,
        postponed_since=since,
        waiting_for=waiting_for,
    )


def hand_back_shard(connection: Connection, key: ShardKey, *, attempt: int, now: float) -> Step:
    """Queue a shard again because its worker stops or has worked for it long enough; it may be claimed at once."""
    shard = _owned(connection, key, attempt)
    if shard is None or not _is_wanted(connection, key, attempt, now=now):
        return Step(applied=shard is not None)
    return _requeue(connection, shard, error=None, now=now, not_before=None)


def record_death(
    connection: Connection,
    key: ShardKey,
    *,
    attempt: int,
    error: str,
    code: str,
    failure: Failure,
    now: float,
    max_attempts: int,
    backoff: Backoff,
) -> Step:
    """Release a shard of which an image has ended the process that computed.

    A shard of several images is divided in two after its second such death, and its parts again after each. An image
    that is alone in its shard and has ended the process `max_attempts` times is left out from then on.

    Args:
        connection: A write transaction.
        key: The shard, which measures or computes.
        attempt: The attempt number from `claim_shard`.
        error: Stored with the shard, for the operator.
        code: Code of the error with which an image is left out.
        failure: Failure of the audit if too many images end the process.
        now: Seconds since 1970.
        max_attempts: Deaths for which an image is left out.
        backoff: How long the shard and its parts wait.
    """
    shard = _owned(connection, key, attempt)
    if shard is None or not _is_wanted(connection, key, attempt, now=now):
        return Step(applied=shard is not None)
    deaths, images = shard.deaths + 1, shard.stop - shard.start
    wait = now + backoff.wait_s(deaths)
    if images == 1 and (shard.left_out is not None or deaths >= max_attempts):
        others = _count(connection, SHARDS.c.audit_id == key.audit_id, SHARDS.c.left_out.is_not(None))
        # one that is left out and still ends the process is no image's fault
        if shard.left_out is not None or others >= MOST_LEFT_OUT:
            return fail_audit(connection, key, attempt=attempt, failure=failure, now=now, error=error)
        return _requeue(connection, shard, error=error, now=now, not_before=wait, deaths=0, left_out=code)
    if images == 1 or deaths < DEATHS_BEFORE_DIVISION:
        return _requeue(connection, shard, error=error, now=now, not_before=wait, deaths=deaths)
    middle = shard.start + images // 2
    halves = {(shard.start, middle), (middle, shard.stop)}
    (start, stop), kept = max(halves), min(halves)
    share = (stop - start) / images
    other = _insert_part(
        connection,
        shard,
        start=start,
        stop=stop,
        weight=shard.weight * share,
        state="queued",
        queued_at=now,
        not_before=wait,
        deaths=_remembered(stop - start),
        error=_storable(error),
    )
    step = _requeue(
        connection,
        shard,
        error=error,
        now=now,
        not_before=wait,
        deaths=_remembered(kept[1] - kept[0]),
        stop=kept[1],
        weight=shard.weight * (1 - share),
    )
    return Step(applied=True, opened=(*step.opened, QueuedShard(other, shard.kind)))


class LeftOutImage(NamedTuple):
    """An image that is left out.

    Attributes:
        kind: Of the shard in which it was alone.
        position: Where it comes in the order of the images of such shards.
        code: With which it is listed.
    """

    kind: str
    position: int
    code: str


def left_out_images(connection: Connection, audit_id: str, model: int) -> tuple[LeftOutImage, ...]:
    """Images of a model that are left out."""
    rows = connection.execute(
        select(SHARDS.c.kind, SHARDS.c.start, SHARDS.c.left_out).where(
            SHARDS.c.audit_id == audit_id, SHARDS.c.model == model, SHARDS.c.left_out.is_not(None)
        )
    )
    return tuple(LeftOutImage(row.kind, row.start, row.left_out) for row in rows)


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


def is_owned(connection: Connection, key: ShardKey, *, attempt: int) -> bool:
    """Whether a shard still runs under this attempt number and is wanted; nothing can change this in the transaction.

    Args:
        connection: A write transaction, which locks the audit from now on.
        key: The shard.
        attempt: The attempt number from `claim_shard`.
    """
    return _owned(connection, key, attempt) is not None and lock_audit(connection, key.audit_id) in ACTIVE


def note_progress(connection: Connection, key: ShardKey) -> None:
    """Forgive the losses and postponements of a shard that has kept something new."""
    connection.execute(update(SHARDS).where(_is(key)).values(losses=0, postponements=0, postponed_since=None))


def get_shard(connection: Connection, key: ShardKey) -> Shard:
    """Return a shard, which must exist."""
    return _shard(connection.execute(select(SHARDS).where(_is(key))).one())


def list_shards(connection: Connection, audit_id: str) -> tuple[Shard, ...]:
    """Return all shards of an audit, in the order in which they run best: parts of a shard follow each other."""
    rows = connection.execute(select(SHARDS).where(SHARDS.c.audit_id == audit_id).order_by(*in_place()))
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


def count_waiting(connection: Connection, *, kinds: Sequence[str], now: float) -> int:
    """Number of shards of these kinds that a worker could claim now.

    Args:
        connection: Any transaction.
        kinds: Which kinds.
        now: Seconds since 1970.
    """
    return connection.execute(
        select(func.count())
        .select_from(SHARDS)
        .join(AUDITS, AUDITS.c.id == SHARDS.c.audit_id)
        .where(claimable(now), SHARDS.c.kind.in_(kinds), AUDITS.c.state.in_(ACTIVE))
    ).scalar_one()


def running_leases(connection: Connection) -> tuple[Lease, ...]:
    """Return the leases of all running shards."""
    rows = connection.execute(select(SHARDS).where(SHARDS.c.state == "running"))
    return tuple(Lease(_key(row), row.attempt, row.lease_until) for row in rows)


def take_over_silent(
    connection: Connection, lease: Lease, *, now: float, failure: Failure, max_losses: int, backoff: Backoff
) -> Step:
    """Release a shard whose worker went silent, unless the worker has renewed its lease since.

    Args:
        connection: A write transaction.
        lease: Its lease, which has run out.
        now: Seconds since 1970.
        failure: Failure of the audit if this was the last loss allowed.
        max_losses: Losses without progress after which the audit fails.
        backoff: How long the shard waits.
    """
    shard = _owned(connection, lease.key, lease.attempt)
    if shard is None or shard.lease_until != lease.until:
        return _STALE
    if not _is_wanted(connection, lease.key, lease.attempt, now=now):
        return Step(applied=True)
    losses, error = shard.losses + 1, "the worker went silent"
    if losses >= max_losses:
        connection.execute(update(SHARDS).where(_is(lease.key)).values(losses=losses))
        return fail_audit(connection, lease.key, attempt=lease.attempt, failure=failure, now=now, error=error)
    # the first time it is claimable at once: its lease was wait enough
    not_before = None if losses == 1 else now + backoff.wait_s(losses - 1)
    return _requeue(connection, shard, error=error, now=now, not_before=not_before, losses=losses)


def _open_wave(connection: Connection, audit_id: str, wave: int, *, now: float) -> tuple[QueuedShard, ...]:
    waiting = and_(SHARDS.c.audit_id == audit_id, SHARDS.c.wave == wave, SHARDS.c.state == "pending")
    rows = connection.execute(select(SHARDS).where(waiting).order_by(SHARDS.c.index)).all()
    if not rows:
        return ()
    connection.execute(update(SHARDS).where(waiting).values(state="queued", queued_at=now))
    if not _count(connection, SHARDS.c.audit_id == audit_id, SHARDS.c.wave > wave):
        move_audit(connection, audit_id, "finalizing", now=now)
    return tuple(QueuedShard(_key(row), row.kind) for row in rows)


def _owned(connection: Connection, key: ShardKey, attempt: int) -> Row[Any] | None:
    """The row of a shard that still runs under this attempt number; its audit is locked from now on."""
    lock_audit(connection, key.audit_id)
    return connection.execute(select(SHARDS).where(_mine(key, attempt))).one_or_none()


def _is_wanted(connection: Connection, key: ShardKey, attempt: int, *, now: float) -> bool:
    """Whether the audit needs the shard; one that is not needed is cancelled."""
    if lock_audit(connection, key.audit_id) in ACTIVE:
        return True
    abandon_shard(connection, key, attempt=attempt, now=now)
    return False


def _requeue(
    connection: Connection,
    shard: Row[Any],
    *,
    error: str | None,
    now: float,
    not_before: float | None,
    **values: object,
) -> Step:
    """Queue a shard again.

    Returns:
        A step that opens it if it may be claimed at once; otherwise it is announced when its wait is over.
    """
    key = _key(shard)
    connection.execute(
        update(SHARDS)
        .where(_is(key), SHARDS.c.state.in_(shard_sources("queued")))
        .values(
            state="queued",
            queued_at=now,
            lease_until=None,
            progress=0.0,
            error=None if error is None else _storable(error),
            not_before=not_before,
            **values,
        )
    )
    if not_before is not None and not_before > now:
        append_state_event(connection, key.audit_id, now=now, kind="progress")
        return Step(applied=True)
    return Step(applied=True, opened=(QueuedShard(key, shard.kind),))


def _insert_part(connection: Connection, shard: Row[Any], **values: object) -> ShardKey:
    """Insert a part of a shard under a number that is free in its wave.

    Its own attempts are 0, so that the sum over all shards stays the number of claims.
    """
    key = _key(shard)
    last = connection.execute(
        select(func.max(SHARDS.c.index)).where(SHARDS.c.audit_id == key.audit_id, SHARDS.c.wave == key.wave)
    ).scalar_one()
    part = ShardKey(key.audit_id, key.wave, last + 1)
    connection.execute(
        insert(SHARDS).values(
            {
                "audit_id": part.audit_id,
                "wave": part.wave,
                "index": part.index,
                "kind": shard.kind,
                "model": shard.model,
                "origin": key.index if shard.origin is None else shard.origin,
                "attempt": 0,
                "progress": 0.0,
                **values,
            }
        )
    )
    return part


def _grow_part(connection: Connection, shard: Row[Any], *, stop: int, weight: float, result_digest: str) -> bool:
    """Add the steps of a training that are done now to those that were done before.

    Returns:
        Whether there were any before.
    """
    key = _key(shard)
    grown = connection.execute(
        update(SHARDS)
        .where(
            SHARDS.c.audit_id == key.audit_id,
            SHARDS.c.wave == key.wave,
            SHARDS.c.state == "done",
            SHARDS.c.stop == shard.start,
        )
        .values(stop=stop, weight=SHARDS.c.weight + weight, result_digest=result_digest)
    )
    return bool(grown.rowcount)


def _forget_checkpoints(connection: Connection, key: ShardKey) -> None:
    """Drop the checkpoint of a training that the result of a shard has replaced."""
    connection.execute(
        update(SHARDS)
        .where(
            SHARDS.c.audit_id == key.audit_id,
            SHARDS.c.wave == key.wave,
            SHARDS.c.index != key.index,
            SHARDS.c.kind == "train",
        )
        .values(result_digest=None)
    )


def checkpoint_of(connection: Connection, audit_id: str) -> str | None:
    """Digest of the newest checkpoint of a training; None if it has none, or none is needed any more."""
    return connection.execute(
        select(SHARDS.c.result_digest)
        .where(SHARDS.c.audit_id == audit_id, SHARDS.c.kind == "train", SHARDS.c.result_digest.is_not(None))
        .order_by(SHARDS.c.stop.desc())
        .limit(1)
    ).scalar_one_or_none()


def _remembered(images: int) -> int:
    """Deaths with which a part of a divided shard begins: the next divides it, but one image is judged by its own."""
    return DEATHS_BEFORE_DIVISION - 1 if images > 1 else 0


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
        faults=row.faults,
        losses=row.losses,
        deaths=row.deaths,
        postponements=row.postponements,
        not_before=row.not_before,
        waiting_for=row.waiting_for,
        left_out=row.left_out,
    )
