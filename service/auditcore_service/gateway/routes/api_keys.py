"""`/v1/api-keys`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response

from auditcore_service.gateway.api_key_bodies import ApiKeyEntry, ApiKeyPage, IssuedApiKey, NewApiKey, Rotation
from auditcore_service.gateway.problem_responses import json_example, problem_example, problem_responses
from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.gateway.routes.paging import CURSOR_EXAMPLE, INVALID_CURSOR, link_next_page
from auditcore_service.gateway.routes.principals import KeyAdministrator
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.store.api_keys import ApiKey
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.api_key_secrets import PREFIX

router = APIRouter(prefix="/v1/api-keys", tags=["api keys"], route_class=CheckedBodies)

_ID = "3kTMd9Zq"
_KEY = {
    "id": _ID,
    "prefix": f"{PREFIX}{_ID}",
    "name": "nightly",
    "scopes": ["audits:read", "audits:write"],
    "created_at": "2026-11-22T12:00:00.000Z",
    "created_by": "key:first",
    "expires_at": "2027-02-20T12:00:00.000Z",
    "rotated_at": None,
    "previous_until": None,
    "revoked_at": None,
    "last_used_at": None,
}
_ISSUED: dict[str, Any] = {
    "api_key": _KEY,
    # its checksum is wrong on purpose, so that no scanner takes it for a secret
    "secret": f"{PREFIX}{_ID}_{'x' * 49}",
}
_NEW = {"name": "nightly", "scopes": ["audits:read", "audits:write"], "expires_at": "2027-02-20T12:00:00Z"}

_NO_KEY = problem_example(404, "not_found", f"there is no API key '{_ID}'; list the keys to see those that there are")
_EXISTS = problem_example(
    409,
    "api_key_exists",
    "there is or was a key named 'nightly', and a name is never reused, because the event log writes names; "
    "choose another name, or rotate the key",
    pointer="#/name",
)
_ENDED = problem_example(
    409, "api_key_ended", "the key 'nightly' was revoked at 2026-11-22T12:00:00.000Z; make a new one"
)
_INVALID_EXPIRY = problem_example(
    422,
    "invalid_expiry",
    "a key ends in the future, and within ten years; choose such a time, or let it have no end and revoke it one day",
    pointer="#/expires_at",
)

KeyId = Annotated[str, Path(description="Id of the key, without `ac_`.")]


@router.post(
    "",
    status_code=201,
    operation_id="createApiKey",
    summary="Make an API key",
    responses={
        201: json_example(_ISSUED, headers={"Location": {"description": "The key.", "schema": {"type": "string"}}}),
        **problem_responses(_EXISTS, _INVALID_EXPIRY),
    },
)
def create(
    body: Annotated[NewApiKey, Body(openapi_examples={"pipeline": {"summary": "For a pipeline", "value": _NEW}})],
    response: Response,
    service: ServiceDep,
    principal: KeyAdministrator,
) -> IssuedApiKey:
    """It belongs to your tenant. Keep the secret where only its user can read it: it is shown only in this answer."""
    key, secret = service.api_keys.create(
        principal,
        name=body.name,
        scopes=body.scopes,
        expires_at=None if body.expires_at is None else body.expires_at.timestamp(),
    )
    response.headers["Location"] = f"{router.prefix}/{key.id}"
    return _issued(key, secret, response)


@router.get(
    "",
    operation_id="listApiKeys",
    summary="List API keys, newest first",
    responses={
        200: json_example({"items": [_KEY], "next_cursor": CURSOR_EXAMPLE}),
        **problem_responses(INVALID_CURSOR),
    },
)
def list_page(
    request: Request,
    response: Response,
    service: ServiceDep,
    principal: KeyAdministrator,
    cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most keys on the page.")] = 20,
) -> ApiKeyPage:
    """One page; follow `next_cursor`, or the Link header with rel=next."""
    keys, following = service.api_keys.page(principal, cursor=cursor, limit=limit)
    link_next_page(request, response, following)
    return ApiKeyPage(items=tuple(_entry(key) for key in keys), next_cursor=following)


@router.get(
    "/{key_id}",
    operation_id="getApiKey",
    summary="An API key",
    responses={200: json_example(_KEY), **problem_responses(_NO_KEY)},
)
def get(key_id: KeyId, service: ServiceDep, principal: KeyAdministrator) -> ApiKeyEntry:
    """What it may do, and when it was last used."""
    return _entry(service.api_keys.get(principal, key_id))


@router.post(
    "/{key_id}/rotate",
    operation_id="rotateApiKey",
    summary="Give an API key another secret",
    responses={200: json_example(_ISSUED), **problem_responses(_NO_KEY, _ENDED)},
)
def rotate(
    key_id: KeyId, body: Rotation, response: Response, service: ServiceDep, principal: KeyAdministrator
) -> IssuedApiKey:
    """Id, name and scopes stay. The secret before is accepted for a while, so that nothing stops.

    A key that expires lives as long again as it did before.
    """
    key, secret = service.api_keys.rotate(principal, key_id, grace_s=body.grace_s)
    return _issued(key, secret, response)


@router.post(
    "/{key_id}/revoke",
    operation_id="revokeApiKey",
    summary="Revoke an API key",
    responses={200: json_example(_KEY | {"revoked_at": "2026-11-23T12:00:00.000Z"}), **problem_responses(_NO_KEY)},
)
def revoke(key_id: KeyId, service: ServiceDep, principal: KeyAdministrator) -> ApiKeyEntry:
    """At once and for good, all its secrets included. It stays listed, because the event log names it."""
    return _entry(service.api_keys.revoke(principal, key_id))


def _issued(key: ApiKey, secret: str, response: Response) -> IssuedApiKey:
    # no cache on the way may keep a secret
    response.headers["Cache-Control"] = "no-store"
    return IssuedApiKey(api_key=_entry(key), secret=secret)


def _entry(key: ApiKey) -> ApiKeyEntry:
    def written(seconds: float | None) -> str | None:
        return None if seconds is None else rfc3339(seconds)

    return ApiKeyEntry(
        id=key.id,
        prefix=f"{PREFIX}{key.id}",
        name=key.name,
        scopes=key.scopes,
        created_at=rfc3339(key.created_at),
        created_by=key.created_by,
        expires_at=written(key.expires_at),
        rotated_at=written(key.rotated_at),
        previous_until=written(key.previous_until),
        revoked_at=written(key.revoked_at),
        last_used_at=written(key.last_used_at),
    )
