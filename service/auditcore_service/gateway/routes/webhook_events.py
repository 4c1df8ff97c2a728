"""What receivers of webhooks get: the section `webhooks` of the OpenAPI document. The service answers none of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel

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

router = APIRouter(tags=["webhooks"])

_AUDIT = "0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11"
_TRAINING = "7d0c8b57-64c1-4f0a-8a53-0f1c2f3a9b77"
_EXPERIMENT = "3f2a9b77-0f1c-4f0a-8a53-7d0c8b5764c1"
_TIME = "2026-11-22T12:03:20.000Z"

EVENT_EXAMPLES: Mapping[AuditEventType, AuditEvent] = {
    "audit.started": audit_event("audit.started", _AUDIT, timestamp=_TIME),
    "audit.succeeded": audit_event("audit.succeeded", _AUDIT, timestamp=_TIME, verdict="pass"),
    "audit.failed": audit_event("audit.failed", _AUDIT, timestamp=_TIME, error_code="worker_lost"),
    "audit.cancelled": audit_event("audit.cancelled", _AUDIT, timestamp=_TIME),
}

TRAINING_EXAMPLES: Mapping[TrainingEventType, TrainingEvent] = {
    "training.started": training_event("training.started", _TRAINING, timestamp=_TIME),
    "training.succeeded": training_event("training.succeeded", _TRAINING, timestamp=_TIME),
    "training.failed": training_event("training.failed", _TRAINING, timestamp=_TIME, error_code="training_diverged"),
    "training.cancelled": training_event("training.cancelled", _TRAINING, timestamp=_TIME),
}

EXPERIMENT_EXAMPLES: Mapping[ExperimentEventType, ExperimentEvent] = {
    "experiment.started": experiment_event("experiment.started", _EXPERIMENT, timestamp=_TIME),
    "experiment.succeeded": experiment_event("experiment.succeeded", _EXPERIMENT, timestamp=_TIME),
    "experiment.failed": experiment_event(
        "experiment.failed", _EXPERIMENT, timestamp=_TIME, error_code="training_diverged"
    ),
    "experiment.cancelled": experiment_event("experiment.cancelled", _EXPERIMENT, timestamp=_TIME),
}

PING_EXAMPLE = PingEvent(timestamp=_TIME, data=PingData(webhook_id="wh_5b0f6c1e3a524f0e9c771f2f0a8f4d11"))

_NAMES: Mapping[AuditEventType, tuple[str, str]] = {
    "audit.started": ("auditStarted", "An audit has started"),
    "audit.succeeded": ("auditSucceeded", "An audit has a report"),
    "audit.failed": ("auditFailed", "An audit has failed"),
    "audit.cancelled": ("auditCancelled", "An audit was cancelled"),
}
"""Event -> the name of its operation, and its summary."""

_TRAINING_NAMES: Mapping[TrainingEventType, tuple[str, str]] = {
    "training.started": ("trainingStarted", "A training has started"),
    "training.succeeded": ("trainingSucceeded", "A training has weights and a report"),
    "training.failed": ("trainingFailed", "A training has failed"),
    "training.cancelled": ("trainingCancelled", "A training was cancelled"),
}
"""The same for trainings."""

_EXPERIMENT_NAMES: Mapping[ExperimentEventType, tuple[str, str]] = {
    "experiment.started": ("experimentStarted", "An experiment has started"),
    "experiment.succeeded": ("experimentSucceeded", "An experiment has a report"),
    "experiment.failed": ("experimentFailed", "An experiment has failed"),
    "experiment.cancelled": ("experimentCancelled", "An experiment was cancelled"),
}
"""The same for experiments."""

_RESPONSES: dict[int | str, dict[str, Any]] = {
    204: {"description": "The event has arrived. Any status from 200 to 299 says so."},
    410: {"description": "Nothing more is wanted: the webhook is disabled."},
    "default": {"description": "The event is sent again: ten times in all, over three days."},
}

_MessageId = Annotated[str, Header(alias="webhook-id", description="Id of the event, the same at every attempt.")]
_SentAt = Annotated[int, Header(alias="webhook-timestamp", description="Time of the attempt, seconds since 1970.")]
_Signatures = Annotated[
    str,
    Header(
        alias="webhook-signature",
        description="`v1,` and the base64 of HMAC-SHA256 over id, timestamp and body; after a rotation two of them.",
    ),
]


def _described(example: BaseModel) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"example": example.model_dump(mode="json")}}}}


def _audit_event(body: AuditEvent, message_id: _MessageId, sent_at: _SentAt, signatures: _Signatures) -> None:
    """Signed as Standard Webhooks says. It may come more than once, with the same id."""


def _training_event(body: TrainingEvent, message_id: _MessageId, sent_at: _SentAt, signatures: _Signatures) -> None:
    """Signed as Standard Webhooks says. It may come more than once, with the same id."""


def _experiment_event(body: ExperimentEvent, message_id: _MessageId, sent_at: _SentAt, signatures: _Signatures) -> None:
    """Signed as Standard Webhooks says. It may come more than once, with the same id."""


def _ping(body: PingEvent, message_id: _MessageId, sent_at: _SentAt, signatures: _Signatures) -> None:
    """What `POST /v1/webhooks/{webhook_id}/ping` asks for."""


for _event, (_name, _summary) in _NAMES.items():
    router.post(
        _event,
        status_code=204,
        operation_id=_name,
        summary=_summary,
        responses=_RESPONSES,
        openapi_extra=_described(EVENT_EXAMPLES[_event]),
    )(_audit_event)

for _training, (_name, _summary) in _TRAINING_NAMES.items():
    router.post(
        _training,
        status_code=204,
        operation_id=_name,
        summary=_summary,
        responses=_RESPONSES,
        openapi_extra=_described(TRAINING_EXAMPLES[_training]),
    )(_training_event)

for _experiment, (_name, _summary) in _EXPERIMENT_NAMES.items():
    router.post(
        _experiment,
        status_code=204,
        operation_id=_name,
        summary=_summary,
        responses=_RESPONSES,
        openapi_extra=_described(EXPERIMENT_EXAMPLES[_experiment]),
    )(_experiment_event)

router.post(
    "ping",
    status_code=204,
    operation_id="ping",
    summary="A test event",
    responses=_RESPONSES,
    openapi_extra=_described(PING_EXAMPLE),
)(_ping)
