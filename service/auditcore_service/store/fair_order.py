"""Whose turn it is: the one order in which workers claim shards, whichever way they hear that something waits.

First come shards that end a job. Then audits come before trainings and experiments, which may take hours. Then a
tenant with the fewest running shards, and among equals the one that was served longest ago; within it an audit by the
same rule; within it shards in their order. So a small audit goes on beside a huge one, and a new tenant beside a busy
one: with one worker, each of n audits of a tenant gets every n-th turn.

Where audits always wait, a training or an experiment that has waited for `TRAINING_WAIT_S` comes before them for one
part or stage, and of several the one that has waited longest. A worker that has just had such a turn asks for none for
the same time, so that many trainings do not keep it from audits.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select, and_, exists, func, select

from auditcore_service.store.audits import lock_audit
from auditcore_service.store.records import Shard, ShardKey
from auditcore_service.store.shards import claim_shard, claimable, in_place
from auditcore_service.store.tables import AUDITS, SHARDS
from auditcore_service.store.transitions import ACTIVE, ShardKind

_TRIES = 16
"""How often a worker looks again because others took the last shard of the audit whose turn it was."""

TRAINING_WAIT_S = 600.0
"""How long a training waits for audits before one part of it comes first. A part takes about AUDIT_CHECKPOINT_S, which
is a minute unless set: where audits always wait, trainings get at least every eleventh minute of a worker."""

_NEVER = -1.0
"""Stands for the time of an audit that was never served; earlier than all others."""


def claim_next(
    connection: Connection,
    *,
    kinds: Sequence[ShardKind],
    now: float,
    lease_s: float,
    stay_with: str | None = None,
    may_put_training_first: bool = False,
) -> Shard | None:
    """Claim the shard whose turn it is.

    Args:
        connection: A write transaction.
        kinds: Kinds of shards that the worker may claim.
        now: Seconds since 1970.
        lease_s: As in `claim_shard`.
        stay_with: Id of an audit whose models the worker has in memory. It comes before all others, except for shards
            that end an audit.
        may_put_training_first: Whether a training that has waited long enough comes before audits; False for a worker
            that has worked on a training within `TRAINING_WAIT_S`.

    Returns:
        The shard with its new attempt number; None if there is none to claim.
    """
    for number in range(_TRIES):
        audit_id = _audit_in_turn(
            connection, _in_turn(kinds, now, may_put_training_first), kinds, now, stay_with if number == 0 else None
        )
        if audit_id is None:
            return None
        # from here on no other worker claims shards of this audit
        if lock_audit(connection, audit_id) not in ACTIVE:
            continue
        key = _first_shard(connection, audit_id, kinds, now)
        shard = None if key is None else claim_shard(connection, key, now=now, lease_s=lease_s)
        if shard is not None:
            return shard
    return None


def is_shard_waiting(
    connection: Connection, *, kinds: Sequence[ShardKind], now: float, besides: str | None = None
) -> bool:
    """Whether `claim_next` would find a shard; this reads only.

    Args:
        connection: Any transaction.
        kinds: Kinds of shards that the worker may claim.
        now: Seconds since 1970.
        besides: Id of an audit whose shards do not count.
    """
    waiting = select(AUDITS.c.id).where(AUDITS.c.state.in_(ACTIVE), _has_claimable(kinds, now)).limit(1)
    if besides is not None:
        waiting = waiting.where(AUDITS.c.id != besides)
    return connection.execute(waiting).scalar_one_or_none() is not None


def _audit_in_turn(
    connection: Connection,
    in_turn: Select[tuple[str, str]],
    kinds: Sequence[ShardKind],
    now: float,
    stay_with: str | None,
) -> str | None:
    found = connection.execute(in_turn.limit(1)).one_or_none()
    if found is None:
        return None
    if stay_with is not None and found.state != "finalizing":
        kept = select(AUDITS.c.id).where(
            AUDITS.c.id == stay_with, AUDITS.c.state.in_(ACTIVE), _has_claimable(kinds, now)
        )
        if connection.execute(kept).one_or_none() is not None:
            return stay_with
    audit_id: str = found.id
    return audit_id


def _in_turn(kinds: Sequence[ShardKind], now: float, may_put_training_first: bool) -> Select[tuple[str, str]]:  # noqa: FBT001 - private
    """Audits with something to claim, in their turn."""
    running = (
        select(SHARDS.c.audit_id, func.count().label("shards"))
        .where(SHARDS.c.state == "running")
        .group_by(SHARDS.c.audit_id)
        .cte("running_of_audits")
    )
    of_tenants = (
        select(AUDITS.c.tenant, func.sum(running.c.shards).label("shards"))
        .join(running, running.c.audit_id == AUDITS.c.id)
        .group_by(AUDITS.c.tenant)
        .cte("running_of_tenants")
    )
    others = AUDITS.alias("others")
    # audits that have ended count too: otherwise one small audit after the other would always come first
    tenant_served = (
        select(func.max(others.c.served_at))
        .where(others.c.tenant == AUDITS.c.tenant, others.c.served_at.is_not(None))
        .scalar_subquery()
    )
    return (
        select(AUDITS.c.id, AUDITS.c.state)
        .outerjoin(running, running.c.audit_id == AUDITS.c.id)
        .outerjoin(of_tenants, of_tenants.c.tenant == AUDITS.c.tenant)
        .where(AUDITS.c.state.in_(ACTIVE), _has_claimable(kinds, now))
        .order_by(
            AUDITS.c.state != "finalizing",
            *((func.coalesce(_overdue_since(kinds, now), now),) if may_put_training_first else ()),
            AUDITS.c.kind != "audit",
            func.coalesce(of_tenants.c.shards, 0),
            func.coalesce(tenant_served, _NEVER),
            func.coalesce(running.c.shards, 0),
            func.coalesce(AUDITS.c.served_at, _NEVER),
            AUDITS.c.created_at,
            AUDITS.c.id,
        )
    )


def _overdue_since(kinds: Sequence[ShardKind], now: float) -> ScalarSelect[float | None]:
    """Since when the steps of a training, or a stage, have waited, if that is long enough; NULL for all others.

    A part that is done, and a worker that hands the rest back, queue the rest anew.
    """
    return (
        select(func.min(SHARDS.c.queued_at))
        .where(
            SHARDS.c.audit_id == AUDITS.c.id,
            SHARDS.c.kind.in_(("train", "stage")),
            SHARDS.c.kind.in_(kinds),
            claimable(now),
            SHARDS.c.queued_at <= now - TRAINING_WAIT_S,
        )
        .scalar_subquery()
    )


def _has_claimable(kinds: Sequence[ShardKind], now: float) -> ColumnElement[bool]:
    return exists().where(and_(SHARDS.c.audit_id == AUDITS.c.id, claimable(now), SHARDS.c.kind.in_(kinds)))


def _first_shard(connection: Connection, audit_id: str, kinds: Sequence[ShardKind], now: float) -> ShardKey | None:
    found = connection.execute(
        select(SHARDS.c.wave, SHARDS.c.index.label("number"))
        .where(SHARDS.c.audit_id == audit_id, claimable(now), SHARDS.c.kind.in_(kinds))
        .order_by(*in_place())
        .limit(1)
    ).one_or_none()
    return None if found is None else ShardKey(audit_id, found.wave, found.number)
