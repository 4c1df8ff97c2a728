"""What can be done with webhooks: register, look up, rotate the secret, test, delete. Knows nothing of HTTP."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, final

import structlog
from sqlalchemy import Connection

from auditcore_service.principals import Principal
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import append_entry
from auditcore_service.store.webhook_deliveries import Delivery, enqueue_ping, list_deliveries
from auditcore_service.store.webhooks import (
    StoredWebhook,
    count_webhooks,
    delete_webhook,
    find_webhook,
    insert_webhook,
    list_webhooks,
    lock_webhook,
    rotate_secret,
)
from auditcore_service.use_cases.cursors import decode_cursor, encode_cursor
from auditcore_service.use_cases.refusals import NotFound, TooManyWebhooks, WebhookDisabled
from auditcore_service.webhook_events import EventType
from auditcore_service.webhooks.receivers import Receivers
from auditcore_service.webhooks.signatures import new_secret

log = structlog.get_logger(__name__)

MOST_WEBHOOKS = 20
"""Webhooks of a tenant; every change of the state of an audit looks at them."""

ROTATION_S = 86_400.0
"""How long the secret before signs too."""

_ID = re.compile(r"wh_[0-9a-f]{32}")


@final
class Webhooks:
    """The use cases.

    Args:
        database: Where webhooks and their deliveries are.
        receivers: Which URLs may receive events.
        on_enqueued: Called when there is something to send.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        database: Database,
        receivers: Receivers,
        on_enqueued: Callable[[], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._receivers = receivers
        self._on_enqueued = on_enqueued
        self._clock = clock

    def register(
        self, principal: Principal, *, url: str, events: Sequence[EventType], description: str
    ) -> StoredWebhook:
        """Store a webhook with a new secret.

        Raises:
            UnsafeReference: The URL may not receive events.
            UnreachableResource: Its host has no address.
            TooManyWebhooks: The tenant has as many as it may have.
        """
        checked = self._receivers.check(url, field="url")
        self._receivers.resolve(checked, field="url")
        now = self._clock()
        webhook_id = f"wh_{uuid.uuid4().hex}"
        with self._database.writing(principal.tenant) as connection:
            # the log first, which also makes registrations of a tenant wait for each other, so that the count holds.
            # A URL may hold a token, and nothing is removed from the log
            data = {"action": "created", "host": checked.host, "events": list(events)}
            _log(connection, principal, webhook_id, data, now=now)
            if count_webhooks(connection) >= MOST_WEBHOOKS:
                msg = f"there are {MOST_WEBHOOKS} webhooks, as many as there may be; delete one that is no longer used"
                raise TooManyWebhooks(msg)
            webhook = insert_webhook(
                connection,
                webhook_id=webhook_id,
                url=str(checked),
                events=events,
                description=description,
                secret=new_secret(),
                now=now,
            )
        log.info("webhook_created", webhook_id=webhook_id)
        return webhook

    def list(self, principal: Principal) -> tuple[StoredWebhook, ...]:
        """All webhooks of the tenant, newest first."""
        with self._database.reading(principal.tenant) as connection:
            return list_webhooks(connection)

    def get(self, principal: Principal, webhook_id: str) -> StoredWebhook:
        """One webhook.

        Raises:
            NotFound: There is none.
        """
        with self._database.reading(principal.tenant) as connection:
            found = find_webhook(connection, _checked(webhook_id))
        return found or _missing(webhook_id)

    def delete(self, principal: Principal, webhook_id: str) -> None:
        """Remove a webhook and what was sent to it.

        Raises:
            NotFound: There is none.
        """
        self.get(principal, webhook_id)
        with self._database.writing(principal.tenant) as connection:
            _log(connection, principal, webhook_id, {"action": "deleted"}, now=self._clock())
            # an exception takes the entry back, if another request was faster
            if not delete_webhook(connection, webhook_id):
                _missing(webhook_id)
        log.info("webhook_deleted", webhook_id=webhook_id)

    def rotate(self, principal: Principal, webhook_id: str) -> StoredWebhook:
        """Give a webhook a new secret; the present one signs too for a day, and the one before it no longer.

        Raises:
            NotFound: There is none.
        """
        self.get(principal, webhook_id)
        now = self._clock()
        with self._database.writing(principal.tenant) as connection:
            _log(connection, principal, webhook_id, {"action": "rotated"}, now=now)
            webhook = lock_webhook(connection, webhook_id) or _missing(webhook_id)
            secret, until = new_secret(), now + ROTATION_S
            rotate_secret(connection, webhook, secret=secret, previous_until=until)
        log.info("webhook_rotated", webhook_id=webhook_id)
        return replace(webhook, secret=secret, previous_secret=webhook.secret, previous_until=until)

    def ping(self, principal: Principal, webhook_id: str) -> Delivery:
        """Send a test event soon.

        Raises:
            NotFound: There is none.
            WebhookDisabled: Nothing is sent to this webhook any more.
        """
        with self._database.writing(principal.tenant) as connection:
            webhook = lock_webhook(connection, _checked(webhook_id)) or _missing(webhook_id)
            if webhook.disabled_at is not None:
                msg = f"webhook {webhook_id} is disabled because {webhook.disabled_reason}; register its URL again"
                raise WebhookDisabled(msg)
            delivery = enqueue_ping(connection, webhook_id, tenant=webhook.tenant, now=self._clock())
        self._on_enqueued()
        return delivery

    def deliveries(
        self, principal: Principal, webhook_id: str, *, cursor: str | None, limit: int
    ) -> tuple[tuple[Delivery, ...], str | None]:
        """What was sent to a webhook in the last 30 days, newest first, and the cursor of the next page.

        Raises:
            NotFound: There is no such webhook.
            InvalidCursor: The cursor is not from this service.
        """
        self.get(principal, webhook_id)
        after = None if cursor is None else decode_cursor(cursor)
        with self._database.reading(principal.tenant) as connection:
            found = list_deliveries(connection, webhook_id, after=after, limit=limit + 1)
        page = found[:limit]
        return page, encode_cursor(page[-1].created_at, page[-1].id) if len(found) > limit else None


def _log(connection: Connection, principal: Principal, webhook_id: str, data: dict[str, Any], *, now: float) -> None:
    append_entry(connection, "webhook", webhook_id, data, now=now, principal=principal.name)


def _checked(webhook_id: str) -> str:
    """The id; a text that no id can be is not sent to the database, which raises on some characters."""
    return webhook_id if _ID.fullmatch(webhook_id) else _missing(webhook_id)


def _missing(webhook_id: str) -> NoReturn:
    msg = f"there is no webhook {webhook_id[:64]!r}; take the id from the answer to POST /v1/webhooks"
    raise NotFound(msg)
