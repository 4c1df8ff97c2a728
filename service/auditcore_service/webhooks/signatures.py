"""Secrets of webhooks, and the headers that sign what is sent (Standard Webhooks 1.0, symmetric scheme)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = 32
"""The specification asks for 24 to 64."""


def new_secret() -> str:
    """A random secret, as the receiver's library takes it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def signed_headers(message_id: str, payload: str, *, signing: Sequence[str], now: float) -> dict[str, str]:
    """The headers of a message.

    Args:
        message_id: The same at every attempt.
        payload: The body.
        signing: Secrets; each gives a signature, so that a receiver may know any of them.
        now: Time of the attempt, seconds since 1970.
    """
    # the library reads the time without its zone, so it has to be in UTC
    time = datetime.fromtimestamp(int(now), tz=UTC)
    signatures = [Webhook(secret).sign(message_id, time, payload) for secret in signing]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(signatures),
    }
