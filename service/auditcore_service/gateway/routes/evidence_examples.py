"""Answers about evidence that the routes show in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from auditcore_service.gateway.problem_responses import problem_example
from auditcore_service.gateway.routes.audit_examples import AUDIT_ID
from auditcore_service.gateway.routes.training_examples import TRAINING_ID

NO_SIGNING_KEY = problem_example(
    404,
    "signing_not_configured",
    "this service signs nothing; the operator can set AUDIT_SIGNING_KEY to a file with a key and start it again",
)
NOT_REGISTERED = problem_example(
    404,
    "not_registered",
    f"audit {AUDIT_ID} was submitted while the service had no signing key, so that its criteria were not registered; "
    "submit it again",
)
TRAINING_NOT_REGISTERED = problem_example(
    404,
    "not_registered",
    f"training {TRAINING_ID} was submitted while the service had no signing key, so that its plan was not registered; "
    "submit it again",
)

_TIME = "2026-11-22T12:10:00.000Z"
_DIGEST = f"sha256:{'0' * 64}"
_KEY_ID = "7d0ad7e80ecb3bd4f4ba1c2b11e1c2f6c5b3b7c1e6f14f3a2f9e6b1d5a0c9e84"
_PUBLIC_KEY = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
    "-----END PUBLIC KEY-----\n"
)

KEYS_EXAMPLE: dict[str, Any] = {
    "items": [{"key_id": _KEY_ID, "public_key": _PUBLIC_KEY, "active": True, "first_used_at": _TIME}]
}

SIGN_OFF_EXAMPLE: dict[str, Any] = {
    "sequence": 12,
    "time": _TIME,
    "principal": "ada@hospital.example",
    "decision": "approve",
    "comment": "rotation is advice only for this product",
    "report": _DIGEST,
}

LOG_ENTRY_EXAMPLE: dict[str, Any] = {
    "tenant": "default",
    "sequence": 12,
    "time": _TIME,
    "principal": "ada@hospital.example",
    "kind": "sign_off",
    "subject": AUDIT_ID,
    "data": {"decision": "approve", "comment": "rotation is advice only for this product", "report": _DIGEST},
    "previous": _DIGEST,
    "hash": _DIGEST,
}
