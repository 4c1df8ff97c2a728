"""Attempts at deliveries: which to make now, and what follows from what the receiver said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import final

import structlog

from auditcore_service.store.database import Database
from auditcore_service.store.event_log import append_entry, lock_log
from auditcore_service.store.webhook_deliveries import (
    Delivery,
    DeliveryState,
    claim_delivery,
    due_deliveries,
    finish_attempt,
)
from auditcore_service.store.webhooks import (
    StoredWebhook,
    disable_webhook,
    find_webhook,
    lock_webhook,
    note_arrival,
    note_failure,
)
from auditcore_service.timestamps import rfc3339
from auditcore_service.webhooks.posting import Answer
from auditcore_service.webhooks.retries import next_attempt, pause_of

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 32
MOST_OF_A_TENANT = 16
MOST_OF_A_WEBHOOK = 2
"""Requests of a sender under way together: receivers that never answer delay only their own events."""

LEASE_S = 60.0
"""How long a sender that died keeps a delivery: longer than a request and the storing of its result."""

DISABLE_AFTER_S = 5 * 86_400.0
"""A delivery that has used up its attempts disables a webhook to which nothing has arrived for this time."""


@final
@dataclass(frozen=True)
class Attempt:
    """A delivery that this process has claimed.

    Attributes:
        webhook: Where it goes, with the secrets that sign it.
        number: How often it has been sent, this time included.
    """

    delivery: Delivery
    webhook: StoredWebhook
    number: int


@final
class Attempts:
    """Claims deliveries and stores results."""

    def __init__(self, database: Database, *, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._jitter = jitter

    def claim(self, under_way: Collection[Attempt]) -> tuple[Attempt, ...]:
        """Claim deliveries that are due.

        Args:
            under_way: Attempts of this process that have not ended; they use up its connections.
        """
        of_webhook = Counter(attempt.webhook.id for attempt in under_way)
        of_tenant = Counter(attempt.webhook.tenant for attempt in under_way)
        room = MOST_AT_ONCE - len(under_way)
        if room <= 0:
            return ()
        now = self._clock()
        busy_webhooks = [one for one, count in of_webhook.items() if count >= MOST_OF_A_WEBHOOK]
        busy_tenants = [one for one, count in of_tenant.items() if count >= MOST_OF_A_TENANT]
        # most of the time nothing is due, and to find that out needs no write lock
        with self._database.reading() as connection:
            if not due_deliveries(
                connection, now=now, limit=1, busy_webhooks=busy_webhooks, busy_tenants=busy_tenants, lock=False
            ):
                return ()
        claimed: list[Attempt] = []
        with self._database.writing() as connection:
            for delivery in due_deliveries(
                connection, now=now, limit=MOST_AT_ONCE, busy_webhooks=busy_webhooks, busy_tenants=busy_tenants
            ):
                webhook = find_webhook(connection, delivery.webhook_id)
                if (
                    webhook is None
                    or len(claimed) == room
                    or of_webhook[webhook.id] == MOST_OF_A_WEBHOOK
                    or of_tenant[webhook.tenant] == MOST_OF_A_TENANT
                ):
                    continue
                of_webhook[webhook.id] += 1
                of_tenant[webhook.tenant] += 1
                number = claim_delivery(connection, delivery, now=now, lease_s=LEASE_S)
                claimed.append(Attempt(delivery, webhook, number))
        return tuple(claimed)

    def finish(self, attempt: Attempt, answer: Answer | str) -> None:
        """Store what came of an attempt.

        Args:
            attempt: The attempt.
            answer: What the receiver said, or why no answer came.
        """
        now = self._clock()
        status, error, paused_until = _outcome(answer, now)
        delivery, webhook_id, tenant = attempt.delivery, attempt.webhook.id, attempt.webhook.tenant
        following = None
        if error is not None and status != HTTPStatus.GONE:
            following = next_attempt(attempt.number, now=now, paused_until=paused_until, jitter=self._jitter)
        ended: DeliveryState = "delivered" if error is None else "failed" if following is None else "pending"
        with self._database.writing() as connection:
            if ended == "failed":  # the webhook may be disabled, and the log is locked before webhooks
                lock_log(connection, tenant=tenant)
            webhook = lock_webhook(connection, webhook_id)
            if webhook is None or not finish_attempt(
                connection,
                delivery,
                attempt=attempt.number,
                state=ended,
                status=status,
                error=error,
                next_attempt_at=following,
            ):
                return
            if error is None:
                note_arrival(connection, webhook_id)
            else:
                note_failure(connection, webhook_id, now=now, paused_until=paused_until)
            reason = None if ended != "failed" else _reason_to_disable(webhook, status, now)
            if reason is not None:
                disable_webhook(connection, webhook_id, now=now, reason=reason)
                data = {"action": "disabled", "reason": reason}
                append_entry(connection, "webhook", webhook_id, data, now=now, tenant=tenant)
        log.info(
            "webhook_attempted",
            webhook_id=webhook_id,
            message_id=delivery.id,
            attempt=attempt.number,
            state=ended,
            status=status,
            disabled=reason is not None,
        )


def _outcome(answer: Answer | str, now: float) -> tuple[int | None, str | None, float | None]:
    """Status, error, and until when the receiver wants nothing; each None if there is none."""
    if isinstance(answer, str):
        return None, answer, None
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return status, None, None
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        error = f"the receiver answered with a redirect ({status}), which is not followed; register the final address"
    else:
        error = f"the receiver answered with status {status}"
    return status, error, pause_of(status, answer.retry_after, now=now)


def _reason_to_disable(webhook: StoredWebhook, status: int | None, now: float) -> str | None:
    """Why a webhook whose delivery failed for good gets nothing more; None if it stays."""
    if webhook.disabled_at is not None:
        return None
    if status == HTTPStatus.GONE:
        return "the receiver answered with status 410 (Gone)"
    if webhook.failing_since is not None and now - webhook.failing_since >= DISABLE_AFTER_S:
        return f"nothing has arrived since {rfc3339(webhook.failing_since)}"
    return None
