"""`/v1/webhooks`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response

from auditcore_service.gateway.problem_responses import (
    CONTENT_TOO_LARGE,
    json_example,
    problem_example,
    problem_responses,
)
from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.gateway.routes.paging import CURSOR_EXAMPLE, INVALID_CURSOR, link_next_page
from auditcore_service.gateway.routes.principals import WebhookWriter
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.schemas import (
    DeliveryEntry,
    DeliveryPage,
    WebhookEntry,
    WebhookLinks,
    WebhookList,
    WebhookRequest,
    WebhookSecret,
)
from auditcore_service.store.webhook_deliveries import Delivery
from auditcore_service.store.webhooks import StoredWebhook
from auditcore_service.timestamps import rfc3339

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=CheckedBodies)

_ID = "wh_5b0f6c1e3a524f0e9c771f2f0a8f4d11"

REQUEST_EXAMPLE = {
    "url": "https://pipeline.example/hooks/audits",
    "events": ["audit.succeeded", "audit.failed"],
    "description": "Release pipeline of the scan classifier",
}

_WEBHOOK_EXAMPLE = {
    "id": _ID,
    **REQUEST_EXAMPLE,
    "created_at": "2026-11-22T12:00:00.000Z",
    "failing_since": None,
    "disabled_at": None,
    "disabled_reason": None,
    "links": {
        "self": f"/v1/webhooks/{_ID}",
        "deliveries": f"/v1/webhooks/{_ID}/deliveries",
        "ping": f"/v1/webhooks/{_ID}/ping",
        "rotate": f"/v1/webhooks/{_ID}/rotate",
    },
}

_SECRET = "whsec_bm90IGEgc2VjcmV0OyBvbmx5IGFuIGV4YW1wbGUgIQ=="  # noqa: S105 - it says that it is none

_DELIVERY_EXAMPLE = {
    "id": "msg_9f2a4c6e8b0d1f3a5c7e9b1d3f5a7c9e",
    "event": "audit.succeeded",
    "audit_id": "0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11",
    "state": "pending",
    "attempts": 2,
    "status": 500,
    "error": "the receiver answered with status 500",
    "created_at": "2026-11-22T12:03:20.000Z",
    "attempted_at": "2026-11-22T12:03:26.100Z",
    "next_attempt_at": "2026-11-22T12:08:40.350Z",
}

_PING_EXAMPLE = _DELIVERY_EXAMPLE | {
    "event": "ping",
    "audit_id": None,
    "attempts": 0,
    "status": None,
    "error": None,
    "attempted_at": None,
}

_EXAMPLES: dict[str, Any] = {"pipeline": {"summary": "Tell a pipeline when audits end", "value": REQUEST_EXAMPLE}}

_NO_WEBHOOK = problem_example(
    404, "not_found", f"there is no webhook {_ID!r}; take the id from the answer to POST /v1/webhooks"
)

WebhookId = Annotated[str, Path(description="Id of the webhook.")]


@router.post(
    "",
    status_code=201,
    operation_id="createWebhook",
    summary="Register a webhook",
    responses={
        201: json_example(
            {"webhook": _WEBHOOK_EXAMPLE, "secret": _SECRET, "previous_until": None},
            headers={"Location": {"description": "The webhook.", "schema": {"type": "string"}}},
            links={
                "webhook": {"operationId": "getWebhook", "parameters": {"webhook_id": "$response.body#/webhook/id"}}
            },
        ),
        **problem_responses(
            problem_example(
                409,
                "too_many_webhooks",
                "there are 20 webhooks, as many as there may be; delete one that is no longer used",
            ),
            problem_example(
                422,
                "unsafe_reference",
                "host 'pipeline.internal' resolves to 10.0.0.7, which is not a public address; "
                "ask the operator to allow it (AUDIT_WEBHOOK_PREFIXES)",
                pointer="#/url",
            ),
            CONTENT_TOO_LARGE,
        ),
    },
)
def create(
    body: Annotated[WebhookRequest, Body(openapi_examples=_EXAMPLES)],
    response: Response,
    service: ServiceDep,
    principal: WebhookWriter,
) -> WebhookSecret:
    """The secret is in this answer and in no other. `POST .../ping` sends a test event."""
    webhook = service.webhooks.register(principal, url=body.url, events=body.events, description=body.description)
    answer = _with_secret(webhook)
    response.headers["Location"] = answer.webhook.links.self
    return answer


@router.get(
    "",
    operation_id="listWebhooks",
    summary="List webhooks, newest first",
    responses={200: json_example({"items": [_WEBHOOK_EXAMPLE]})},
)
def list_all(service: ServiceDep, principal: WebhookWriter) -> WebhookList:
    """All of them, without their secrets; there are at most 20."""
    return WebhookList(items=tuple(_entry(webhook) for webhook in service.webhooks.list(principal)))


@router.get(
    "/{webhook_id}",
    operation_id="getWebhook",
    summary="A webhook",
    responses={200: json_example(_WEBHOOK_EXAMPLE), **problem_responses(_NO_WEBHOOK)},
)
def get(webhook_id: WebhookId, service: ServiceDep, principal: WebhookWriter) -> WebhookEntry:
    """`disabled_reason` says why nothing is sent any more, if so. Then correct the receiver and register it again."""
    return _entry(service.webhooks.get(principal, webhook_id))


@router.delete(
    "/{webhook_id}",
    status_code=204,
    operation_id="deleteWebhook",
    summary="Delete a webhook",
    responses=problem_responses(_NO_WEBHOOK),
)
def delete(webhook_id: WebhookId, service: ServiceDep, principal: WebhookWriter) -> None:
    """Nothing more is sent, not even what waits. The list of deliveries is deleted too."""
    service.webhooks.delete(principal, webhook_id)


@router.post(
    "/{webhook_id}/rotate",
    operation_id="rotateWebhookSecret",
    summary="Get a new secret",
    responses={
        200: json_example(
            {"webhook": _WEBHOOK_EXAMPLE, "secret": _SECRET, "previous_until": "2026-11-23T12:00:00.000Z"}
        ),
        **problem_responses(_NO_WEBHOOK),
    },
)
def rotate(webhook_id: WebhookId, service: ServiceDep, principal: WebhookWriter) -> WebhookSecret:
    """For 24 hours the old secret signs too: the header has two signatures. A second rotation ends the first secret."""
    return _with_secret(service.webhooks.rotate(principal, webhook_id))


@router.post(
    "/{webhook_id}/ping",
    status_code=202,
    operation_id="pingWebhook",
    summary="Send a test event",
    responses={
        202: json_example(_PING_EXAMPLE),
        **problem_responses(
            _NO_WEBHOOK,
            problem_example(
                409,
                "webhook_disabled",
                f"webhook {_ID} is disabled because the receiver answered with status 410 (Gone); "
                "register its URL again",
            ),
        ),
    },
)
def ping(webhook_id: WebhookId, service: ServiceDep, principal: WebhookWriter) -> DeliveryEntry:
    """The event has the type `ping`. `GET .../deliveries` says what came of it."""
    return _delivery(service.webhooks.ping(principal, webhook_id))


@router.get(
    "/{webhook_id}/deliveries",
    operation_id="listWebhookDeliveries",
    summary="What was sent to a webhook, newest first",
    responses={
        200: json_example({"items": [_DELIVERY_EXAMPLE], "next_cursor": CURSOR_EXAMPLE}),
        **problem_responses(_NO_WEBHOOK, INVALID_CURSOR),
    },
)
def list_deliveries(
    webhook_id: WebhookId,
    request: Request,
    response: Response,
    service: ServiceDep,
    principal: WebhookWriter,
    cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most deliveries on the page.")] = 20,
) -> DeliveryPage:
    """Events of the last 30 days, each with its last attempt."""
    found, following = service.webhooks.deliveries(principal, webhook_id, cursor=cursor, limit=limit)
    link_next_page(request, response, following)
    return DeliveryPage(items=tuple(_delivery(delivery) for delivery in found), next_cursor=following)


def _with_secret(webhook: StoredWebhook) -> WebhookSecret:
    return WebhookSecret(webhook=_entry(webhook), secret=webhook.secret, previous_until=_time(webhook.previous_until))


def _entry(webhook: StoredWebhook) -> WebhookEntry:
    path = f"{router.prefix}/{webhook.id}"
    return WebhookEntry.model_validate(
        {
            "id": webhook.id,
            "url": webhook.url,
            "events": webhook.events,
            "description": webhook.description,
            "created_at": rfc3339(webhook.created_at),
            "failing_since": _time(webhook.failing_since),
            "disabled_at": _time(webhook.disabled_at),
            "disabled_reason": webhook.disabled_reason,
            "links": WebhookLinks(
                self=path, deliveries=f"{path}/deliveries", ping=f"{path}/ping", rotate=f"{path}/rotate"
            ),
        }
    )


def _delivery(delivery: Delivery) -> DeliveryEntry:
    about = delivery.event.partition(".")[0]
    return DeliveryEntry.model_validate(
        {
            "id": delivery.id,
            "event": delivery.event,
            "audit_id": delivery.audit_id if about == "audit" else None,
            "training_id": delivery.audit_id if about == "training" else None,
            "experiment_id": delivery.audit_id if about == "experiment" else None,
            "state": delivery.state,
            "attempts": delivery.attempts,
            "status": delivery.status,
            "error": delivery.error,
            "created_at": rfc3339(delivery.created_at),
            "attempted_at": _time(delivery.attempted_at),
            "next_attempt_at": _time(delivery.next_attempt_at),
        }
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)
