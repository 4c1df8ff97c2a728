"""Signatures of webhooks, against the library that receivers use and against the formula of the specification."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from auditcore_service.webhooks.signatures import new_secret, signed_headers


def replica(secret: str, message_id: str, timestamp: str, payload: str) -> str:
    """The signature as Standard Webhooks 1.0 describes it, without the library."""
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    signed = hmac.new(key, f"{message_id}.{timestamp}.{payload}".encode(), hashlib.sha256)
    return f"v1,{base64.b64encode(signed.digest()).decode()}"


@given(st.text(st.characters(exclude_categories=("Cs",))), st.floats(0, 4e9), st.integers(1, 3))
def test_each_secret_signs_as_the_specification_says(payload: str, now: float, count: int) -> None:
    signing = [new_secret() for _ in range(count)]
    headers = signed_headers("msg_1", payload, signing=signing, now=now)
    assert headers["webhook-timestamp"] == str(int(now))
    assert headers["webhook-signature"].split(" ") == [replica(one, "msg_1", str(int(now)), payload) for one in signing]


def test_receivers_with_either_secret_accept_what_is_signed_with_both() -> None:
    new, old = new_secret(), new_secret()
    headers = signed_headers("msg_1", '{"type":"ping"}', signing=(new, old), now=time.time())
    for secret in (new, old):
        assert Webhook(secret).verify('{"type":"ping"}', headers) == {"type": "ping"}
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify('{"type":"ping"}', headers)
    for changed in ({"webhook-id": "msg_2"}, {"webhook-timestamp": str(int(time.time()) - 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(new).verify('{"type":"ping"}', headers | changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify('{"type":"pong"}', headers)


def test_a_secret_is_random_and_as_long_as_the_specification_asks_for() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) == 32
