"""Webhooks: where a tenant wants to hear of its audits.

A transaction that appends to the event log and also locks a webhook appends first (`lock_log`), then locks the webhook,
then its deliveries: with one order of locks there is no deadlock.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from auditcore_service.store.tables import WEBHOOK_DELIVERIES, WEBHOOKS
from auditcore_service.store.tenancy import owned, owner


@final
@dataclass(frozen=True)
class StoredWebhook:
    """A webhook as stored; times are seconds since 1970 UTC.

    Attributes:
        events: Types of the events that it gets.
        secret: Signs everything that is sent, `whsec_...`.
        previous_secret: The one before; it signs too until `previous_until`.
        failing_since: First failure since something arrived; None if the last attempt arrived.
        paused_until: The receiver asked for nothing before this time.
        disabled_at: When the service stopped to send; None if it sends.
        disabled_reason: Why it stopped.
    """

    id: str
    tenant: str
    url: str
    events: tuple[str, ...]
    description: str
    secret: str
    previous_secret: str | None
    previous_until: float | None
    created_at: float
    failing_since: float | None
    paused_until: float | None
    disabled_at: float | None
    disabled_reason: str | None

    def secrets_at(self, now: float) -> tuple[str, ...]:
        """The secrets that sign at a time, the current one first."""
        if self.previous_secret is None or self.previous_until is None or now >= self.previous_until:
            return (self.secret,)
        return self.secret, self.previous_secret


def insert_webhook(
    connection: Connection,
    *,
    webhook_id: str,
    url: str,
    events: Sequence[str],
    description: str,
    secret: str,
    now: float,
) -> StoredWebhook:
    """Store a webhook of the transaction's tenant."""
    connection.execute(
        insert(WEBHOOKS).values(
            id=webhook_id,
            tenant=owner(connection),
            url=url,
            events=json.dumps(list(events)),
            description=description,
            secret=secret,
            created_at=now,
        )
    )
    return _webhook(connection.execute(select(WEBHOOKS).where(WEBHOOKS.c.id == webhook_id)).one())


def find_webhook(connection: Connection, webhook_id: str) -> StoredWebhook | None:
    """Return a webhook, or None if there is none."""
    row = connection.execute(
        select(WEBHOOKS).where(owned(connection, WEBHOOKS), WEBHOOKS.c.id == webhook_id)
    ).one_or_none()
    return None if row is None else _webhook(row)


def lock_webhook(connection: Connection, webhook_id: str) -> StoredWebhook | None:
    """Return a webhook that no other transaction can change or remove until this one ends; None if there is none."""
    # key_share: events may still be added to it (SQLite's write transaction already holds the only lock)
    row = connection.execute(
        select(WEBHOOKS).where(owned(connection, WEBHOOKS), WEBHOOKS.c.id == webhook_id).with_for_update(key_share=True)
    ).one_or_none()
    return None if row is None else _webhook(row)


def list_webhooks(connection: Connection) -> tuple[StoredWebhook, ...]:
    """Return all webhooks of the transaction's tenant, newest first."""
    rows = connection.execute(
        select(WEBHOOKS).where(owned(connection, WEBHOOKS)).order_by(WEBHOOKS.c.created_at.desc(), WEBHOOKS.c.id.desc())
    )
    return tuple(_webhook(row) for row in rows)


def count_webhooks(connection: Connection) -> int:
    """Return how many webhooks the transaction's tenant has."""
    return connection.execute(
        select(func.count()).select_from(WEBHOOKS).where(owned(connection, WEBHOOKS))
    ).scalar_one()


def delete_webhook(connection: Connection, webhook_id: str) -> bool:
    """Remove a webhook with its deliveries; return whether there was one."""
    return bool(
        connection.execute(delete(WEBHOOKS).where(owned(connection, WEBHOOKS), WEBHOOKS.c.id == webhook_id)).rowcount
    )


def rotate_secret(connection: Connection, webhook: StoredWebhook, *, secret: str, previous_until: float) -> None:
    """Give a webhook a new secret; the present one signs too until `previous_until`."""
    connection.execute(
        update(WEBHOOKS)
        .where(WEBHOOKS.c.id == webhook.id)
        .values(secret=secret, previous_secret=webhook.secret, previous_until=previous_until)
    )


def note_arrival(connection: Connection, webhook_id: str) -> None:
    """Note that the receiver took an event."""
    connection.execute(
        update(WEBHOOKS).where(WEBHOOKS.c.id == webhook_id).values(failing_since=None, paused_until=None)
    )


def note_failure(connection: Connection, webhook_id: str, *, now: float, paused_until: float | None) -> None:
    """Note that the receiver did not take an event, and until when it wants nothing."""
    connection.execute(
        update(WEBHOOKS)
        .where(WEBHOOKS.c.id == webhook_id)
        .values(failing_since=func.coalesce(WEBHOOKS.c.failing_since, now), paused_until=paused_until)
    )


def disable_webhook(connection: Connection, webhook_id: str, *, now: float, reason: str) -> None:
    """Send nothing more to a webhook; what still waits is cancelled."""
    connection.execute(
        update(WEBHOOKS).where(WEBHOOKS.c.id == webhook_id).values(disabled_at=now, disabled_reason=reason)
    )
    connection.execute(
        update(WEBHOOK_DELIVERIES)
        .where(WEBHOOK_DELIVERIES.c.webhook_id == webhook_id, WEBHOOK_DELIVERIES.c.state == "pending")
        .values(state="cancelled", next_attempt_at=None)
    )


def _webhook(row: Row[Any]) -> StoredWebhook:
    values = dict(row._mapping)  # noqa: SLF001 - the documented accessor, in spite of its underscore
    return StoredWebhook(**{**values, "events": tuple(json.loads(row.events))})
