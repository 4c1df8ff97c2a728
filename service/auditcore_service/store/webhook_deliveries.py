"""The outbox of webhooks: events are stored in the transaction that makes them, and sent afterwards.

`next_attempt_at` of a delivery that is being sent is the end of its sender's lease. A sender that dies thus gives the
delivery back, and the number of attempts says whose result counts.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, insert, or_, select, update

from auditcore_service.store.pages import after_position
from auditcore_service.store.tables import AUDIT_TAGS, AUDITS, WEBHOOK_DELIVERIES, WEBHOOKS
from auditcore_service.store.tenancy import owned
from auditcore_service.store.transitions import AuditState
from auditcore_service.timestamps import rfc3339
from auditcore_service.webhook_events import (
    AuditEvent,
    AuditEventType,
    ExperimentEvent,
    ExperimentEventType,
    PingData,
    PingEvent,
    TrainingEvent,
    TrainingEventType,
    audit_event,
    experiment_event,
    training_event,
)

DeliveryState = Literal["pending", "delivered", "failed", "cancelled"]
"""`failed`: no attempt is left. `cancelled`: the webhook was disabled before it arrived."""

EVENTS: Mapping[AuditState, AuditEventType] = {
    "running": "audit.started",
    "succeeded": "audit.succeeded",
    "failed": "audit.failed",
    "cancelled": "audit.cancelled",
}
"""State that an audit moves to -> the event that this is."""

TRAINING_EVENTS: Mapping[AuditState, TrainingEventType] = {
    "running": "training.started",
    "succeeded": "training.succeeded",
    "failed": "training.failed",
    "cancelled": "training.cancelled",
}
"""The same for a training."""

EXPERIMENT_EVENTS: Mapping[AuditState, ExperimentEventType] = {
    "running": "experiment.started",
    "succeeded": "experiment.succeeded",
    "failed": "experiment.failed",
    "cancelled": "experiment.cancelled",
}
"""The same for an experiment."""

LONGEST_WAIT_S = 2 * 86400.0
"""More than the longest pause and the longest time between two attempts. What is to wait longer was stored before the
clock was set back."""

KEPT_S = 30 * 86400.0
"""How long deliveries are listed after their event."""


@final
@dataclass(frozen=True)
class Delivery:
    """One event for one webhook; times are seconds since 1970 UTC.

    Attributes:
        id: The header `webhook-id`, the same at every attempt and for every webhook that gets the event.
        payload: The body, the same at every attempt.
        attempts: How often it was sent.
        next_attempt_at: When it is sent next; None if never.
        attempted_at: When it was last sent; None if never.
        status: HTTP status of the last answer; None if there was none.
        error: Why the last attempt failed; None if it did not.
    """

    webhook_id: str
    id: str
    tenant: str
    event: str
    audit_id: str | None
    payload: str
    state: DeliveryState
    attempts: int
    created_at: float
    next_attempt_at: float | None
    attempted_at: float | None
    status: int | None
    error: str | None


def enqueue_audit_event(connection: Connection, audit_id: str, state: AuditState, *, now: float) -> None:
    """Store the event that an audit's new state is, if it is one, for every webhook of its tenant that wants it.

    Args:
        connection: The transaction that has moved the audit.
        audit_id: The audit, the training or the experiment.
        state: Where it has moved.
        now: Seconds since 1970.
    """
    event, training, experiment = EVENTS.get(state), TRAINING_EVENTS.get(state), EXPERIMENT_EVENTS.get(state)
    if event is None or training is None or experiment is None:
        return
    wanted = (
        and_(AUDITS.c.kind == kind, WEBHOOKS.c.events.contains(f'"{name}"'))
        for kind, name in (("audit", event), ("training", training), ("experiment", experiment))
    )
    hooks = connection.execute(
        select(WEBHOOKS.c.id, WEBHOOKS.c.tenant, AUDITS.c.kind, AUDITS.c.name, AUDITS.c.verdict, AUDITS.c.error_code)
        .join(AUDITS, AUDITS.c.tenant == WEBHOOKS.c.tenant)
        .where(AUDITS.c.id == audit_id, WEBHOOKS.c.disabled_at.is_(None), or_(*wanted))
        .order_by(WEBHOOKS.c.id)
        # what is removed in between would break the foreign key, and the transition of the audit with it
        .with_for_update(read=True, key_share=True, of=WEBHOOKS)
    ).all()
    if not hooks:
        return
    tags = connection.execute(
        select(AUDIT_TAGS.c.key, AUDIT_TAGS.c.value).where(AUDIT_TAGS.c.audit_id == audit_id).order_by(AUDIT_TAGS.c.key)
    ).all()
    audit = hooks[0]
    told = {"timestamp": rfc3339(now), "name": audit.name, "tags": {tag.key: tag.value for tag in tags}}
    body: AuditEvent | TrainingEvent | ExperimentEvent
    match audit.kind:
        case "training":
            body = training_event(training, audit_id, error_code=audit.error_code, **told)
        case "experiment":
            body = experiment_event(experiment, audit_id, error_code=audit.error_code, **told)
        case _:
            body = audit_event(event, audit_id, verdict=audit.verdict, error_code=audit.error_code, **told)
    payload = body.model_dump_json()
    message_id = _new_message_id()
    for hook in hooks:
        _enqueue(
            connection,
            hook.id,
            message_id,
            tenant=hook.tenant,
            event=body.type,
            payload=payload,
            audit_id=audit_id,
            now=now,
        )


def enqueue_ping(connection: Connection, webhook_id: str, *, tenant: str, now: float) -> Delivery:
    """Store a test event for one webhook."""
    payload = PingEvent(timestamp=rfc3339(now), data=PingData(webhook_id=webhook_id)).model_dump_json()
    return _enqueue(connection, webhook_id, _new_message_id(), tenant=tenant, event="ping", payload=payload, now=now)


def due_deliveries(
    connection: Connection,
    *,
    now: float,
    limit: int,
    busy_webhooks: Collection[str] = (),
    busy_tenants: Collection[str] = (),
    lock: bool = True,
) -> tuple[Delivery, ...]:
    """Deliveries to send now, those that have waited longest first.

    Args:
        connection: A write transaction; any transaction without `lock`.
        now: Seconds since 1970.
        limit: Most deliveries to return.
        busy_webhooks: Webhooks that cannot take more at present.
        busy_tenants: Tenants whose share of connections is used up.
        lock: Pass over what another sender is claiming, and keep others from claiming what is returned.
    """
    query: Select[Any] = (
        select(WEBHOOK_DELIVERIES)
        .join(WEBHOOKS, WEBHOOKS.c.id == WEBHOOK_DELIVERIES.c.webhook_id)
        .where(
            WEBHOOK_DELIVERIES.c.state == "pending",
            _has_come(WEBHOOK_DELIVERIES.c.next_attempt_at, now),
            or_(WEBHOOKS.c.paused_until.is_(None), _has_come(WEBHOOKS.c.paused_until, now)),
            WEBHOOK_DELIVERIES.c.webhook_id.not_in(busy_webhooks),
            WEBHOOK_DELIVERIES.c.tenant.not_in(busy_tenants),
        )
        .order_by(WEBHOOK_DELIVERIES.c.next_attempt_at, WEBHOOK_DELIVERIES.c.id)
        .limit(limit)
    )
    if lock:
        query = query.with_for_update(skip_locked=True, of=WEBHOOK_DELIVERIES)
    return tuple(_delivery(row) for row in connection.execute(query))


def claim_delivery(connection: Connection, delivery: Delivery, *, now: float, lease_s: float) -> int:
    """Begin an attempt at a delivery of `due_deliveries`; return its number, from 1."""
    attempt = delivery.attempts + 1
    connection.execute(
        update(WEBHOOK_DELIVERIES)
        .where(_is(delivery))
        .values(attempts=attempt, attempted_at=now, next_attempt_at=now + lease_s)
    )
    return attempt


def finish_attempt(
    connection: Connection,
    delivery: Delivery,
    *,
    attempt: int,
    state: DeliveryState,
    status: int | None,
    error: str | None,
    next_attempt_at: float | None,
) -> bool:
    """Store the result of an attempt, unless another sender has taken over since or the webhook is disabled.

    Returns:
        Whether it was stored.
    """
    return bool(
        connection.execute(
            update(WEBHOOK_DELIVERIES)
            .where(_is(delivery), WEBHOOK_DELIVERIES.c.attempts == attempt, WEBHOOK_DELIVERIES.c.state == "pending")
            .values(state=state, status=status, error=error, next_attempt_at=next_attempt_at)
        ).rowcount
    )


def list_deliveries(
    connection: Connection, webhook_id: str, *, after: tuple[float, str] | None, limit: int
) -> tuple[Delivery, ...]:
    """Return deliveries of a webhook, newest first.

    Args:
        connection: An open transaction.
        webhook_id: The webhook.
        after: (created_at, id) of the last delivery on the previous page.
        limit: Largest number of deliveries to return.
    """
    query = (
        select(WEBHOOK_DELIVERIES)
        .where(owned(connection, WEBHOOK_DELIVERIES), WEBHOOK_DELIVERIES.c.webhook_id == webhook_id)
        .order_by(WEBHOOK_DELIVERIES.c.created_at.desc(), WEBHOOK_DELIVERIES.c.id.desc())
        .limit(limit)
    )
    query = query.where(after_position(WEBHOOK_DELIVERIES.c.created_at, WEBHOOK_DELIVERIES.c.id, after))
    return tuple(_delivery(row) for row in connection.execute(query))


def count_deliveries(connection: Connection) -> dict[str, int]:
    """Return the number of deliveries by state."""
    rows = connection.execute(
        select(WEBHOOK_DELIVERIES.c.state, func.count().label("deliveries")).group_by(WEBHOOK_DELIVERIES.c.state)
    )
    return {row.state: row.deliveries for row in rows}


def forget_deliveries(connection: Connection, *, now: float) -> int:
    """Delete deliveries that ended and are no longer listed; return how many."""
    return connection.execute(
        delete(WEBHOOK_DELIVERIES).where(
            WEBHOOK_DELIVERIES.c.created_at < now - KEPT_S, WEBHOOK_DELIVERIES.c.state != "pending"
        )
    ).rowcount


def _has_come(time: ColumnElement[float], now: float) -> ColumnElement[bool]:
    """Whether a time has come, or was written while the clock was wrong."""
    return or_(time <= now, time > now + LONGEST_WAIT_S)


def _new_message_id() -> str:
    # no full stop: it separates the parts of what is signed
    return f"msg_{uuid.uuid4().hex}"


def _enqueue(
    connection: Connection,
    webhook_id: str,
    message_id: str,
    *,
    tenant: str,
    event: str,
    payload: str,
    now: float,
    audit_id: str | None = None,
) -> Delivery:
    delivery = Delivery(
        webhook_id=webhook_id,
        id=message_id,
        tenant=tenant,
        event=event,
        audit_id=audit_id,
        payload=payload,
        state="pending",
        attempts=0,
        created_at=now,
        next_attempt_at=now,
        attempted_at=None,
        status=None,
        error=None,
    )
    connection.execute(insert(WEBHOOK_DELIVERIES).values(**vars(delivery)))
    return delivery


def _is(delivery: Delivery) -> ColumnElement[bool]:
    return and_(WEBHOOK_DELIVERIES.c.webhook_id == delivery.webhook_id, WEBHOOK_DELIVERIES.c.id == delivery.id)


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(**row._mapping)  # noqa: SLF001 - the documented accessor, in spite of its underscore
