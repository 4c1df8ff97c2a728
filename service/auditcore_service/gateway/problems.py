"""Every error as RFC 9457 problem details: one table from error to status, one form for all answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from auditcore import errors
from auditcore_service.gateway.outages import OUTAGE_ERRORS, RETRY_AFTER_S, outage
from auditcore_service.gateway.schemas import Problem, ProblemError
from auditcore_service.use_cases import refusals
from auditcore_service.use_cases.locations import parts_in, root_mistakes, sentence

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

MOST_MISTAKES = 50
"""Mistakes listed in one problem; a body of a few megabytes can hold a million."""

STATUS: Mapping[type[errors.AuditcoreError | refusals.Refusal], HTTPStatus] = {
    errors.AuditcoreError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnsafeReference: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnreachableResource: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.DigestMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.LimitExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UndecodableImage: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.AnnotationInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NoUsableImages: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.LabelOutOfRange: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelSignatureInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelSignatureUntrusted: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelNotLoadable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NonFiniteWeights: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MemoryExhausted: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelOutputInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelChanged: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ServerFailing: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RequestBudgetExceeded: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MapsInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ExplainerFailing: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelNotTrainable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TrainingDiverged: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BudgetTooSmall: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.CheckpointInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotApplicable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ShapeError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.AuditCancelled: HTTPStatus.CONFLICT,
    errors.WorkInterrupted: HTTPStatus.INTERNAL_SERVER_ERROR,
    refusals.Refusal: HTTPStatus.BAD_REQUEST,
    refusals.NotFound: HTTPStatus.NOT_FOUND,
    refusals.Deleted: HTTPStatus.GONE,
    refusals.ReportNotReady: HTTPStatus.NOT_FOUND,
    refusals.SigningNotConfigured: HTTPStatus.NOT_FOUND,
    refusals.NotRegistered: HTTPStatus.NOT_FOUND,
    refusals.NotReplayed: HTTPStatus.NOT_FOUND,
    refusals.InvalidCursor: HTTPStatus.UNPROCESSABLE_ENTITY,
    refusals.NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    refusals.UnsupportedUpload: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    refusals.InvalidUpload: HTTPStatus.UNPROCESSABLE_ENTITY,
    refusals.InvalidIdempotencyKey: HTTPStatus.BAD_REQUEST,
    refusals.IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    refusals.BudgetExceeded: HTTPStatus.UNPROCESSABLE_ENTITY,
    refusals.QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    refusals.TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    refusals.SignerUnknown: HTTPStatus.UNPROCESSABLE_ENTITY,
    refusals.SignerMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    refusals.PolicyExists: HTTPStatus.CONFLICT,
    refusals.TooManyWebhooks: HTTPStatus.CONFLICT,
    refusals.WebhookDisabled: HTTPStatus.CONFLICT,
    refusals.AuditUnderWay: HTTPStatus.CONFLICT,
    refusals.UsedByAudit: HTTPStatus.CONFLICT,
    refusals.ModelRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    refusals.CredentialsMissing: HTTPStatus.UNAUTHORIZED,
    refusals.CredentialsInvalid: HTTPStatus.UNAUTHORIZED,
    refusals.IssuerUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    refusals.ScopeMissing: HTTPStatus.FORBIDDEN,
    refusals.HostUnknown: HTTPStatus.MISDIRECTED_REQUEST,
    refusals.CrossSiteRequest: HTTPStatus.FORBIDDEN,
    refusals.ApiKeyExists: HTTPStatus.CONFLICT,
    refusals.ApiKeyEnded: HTTPStatus.CONFLICT,
    refusals.InvalidExpiry: HTTPStatus.UNPROCESSABLE_ENTITY,
    refusals.RequestInFlight: HTTPStatus.CONFLICT,
}
"""Error class -> status; a test checks that every error has one."""

_RENAMED = {413: "Content Too Large", 422: "Unprocessable Content"}

_CODES: Mapping[int, str] = {
    400: "malformed_request",
    403: refusals.ScopeMissing.code,
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    413: "content_too_large",
    415: "unsupported_media_type",
    503: "unavailable",
}

# pydantic says what is wrong; these say how to fix it where that does not follow from it
_FIXES: Mapping[str, str] = {
    "missing": "this field is required; add it",
    "extra_forbidden": "this field is unknown; remove it or check its spelling",
    "timezone_aware": "this time has no zone; write it as in 2026-11-22T12:00:00Z",
    "json_invalid": "the body is not JSON; check it at the position named",
}


def status_title(status: int) -> str:
    """The name of an HTTP status after RFC 9110, which Python's own names follow only from 3.13 on."""
    return _RENAMED.get(status) or HTTPStatus(status).phrase


def status_of_error(error: errors.AuditcoreError | refusals.Refusal) -> HTTPStatus:
    """The status that an error is answered with."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem_type(code: str) -> str:
    """The URN of a kind of problem."""
    return f"urn:auditcore:problem:{code}"


def problem(
    status: int,
    *,
    code: str,
    detail: str,
    instance: str | None = None,
    found: Iterable[ProblemError] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An answer in problem form."""
    body = Problem(
        type=problem_type(code),
        title=status_title(status),
        status=status,
        detail=detail,
        code=code,
        instance=instance,
        errors=tuple(found),
    )
    return JSONResponse(
        body.model_dump(mode="json", exclude_none=True),
        status_code=status,
        headers=dict(headers or {}),
        media_type=MEDIA_TYPE,
    )


def content_too_large(limit: int) -> HTTPException:
    """The exception that `BodyLimit` raises; FastAPI lets this class pass while it reads a body."""
    detail = f"the body has more than the {limit} bytes allowed; send less, or ask the operator to raise the limit"
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def forbidden(error: refusals.ScopeMissing) -> HTTPException:
    """The same refusal as an exception that FastAPI lets pass while it reads a body."""
    return HTTPException(HTTPStatus.FORBIDDEN, error.message, headers=_headers(error))


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every known error of an app in problem form; `unexpected` is for the others."""
    app.add_exception_handler(errors.AuditcoreError, _known)
    app.add_exception_handler(refusals.Refusal, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _http)
    for kind in OUTAGE_ERRORS:
        app.add_exception_handler(kind, unexpected)


def pointer(field: str) -> str:
    """JSON pointer of a dotted field, such as `#/model/weights/uri`."""
    return "#" + "".join(f"/{_escape(part)}" for part in field.split(".") if part)


def location_pointer(location: Sequence[str | int], body: object, *, missing: bool = True) -> str:
    """JSON pointer of a pydantic location; see `parts_in`."""
    return "#" + "".join(f"/{_escape(str(part))}" for part in parts_in(location, body, missing=missing))


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def error_response(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error, for middleware and pages, which the handlers of the app do not reach."""
    if isinstance(error, RequestValidationError):
        return _invalid(request, error)
    if isinstance(error, StarletteHTTPException):
        return _http(request, error)
    return _known(request, error)


def _known(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, errors.AuditcoreError | refusals.Refusal):
        return unexpected(request, error)
    status = status_of_error(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return unexpected(request, error)
    field = getattr(error, "field", None)
    found = [ProblemError(pointer=pointer(field), detail=error.message, code=error.code)] if field else []
    return problem(
        status, code=error.code, detail=error.message, instance=request.url.path, found=found, headers=_headers(error)
    )


def _headers(error: Exception) -> dict[str, str]:
    """Headers that belong to an error; RFC 6750 says what `WWW-Authenticate` holds."""
    match error:
        case refusals.CredentialsMissing():
            return {"WWW-Authenticate": 'Bearer realm="auditcore"'}
        case refusals.CredentialsInvalid():
            return {"WWW-Authenticate": 'Bearer realm="auditcore", error="invalid_token"'}
        case refusals.ScopeMissing():
            scopes = " ".join(error.scopes)
            return {"WWW-Authenticate": f'Bearer realm="auditcore", error="insufficient_scope", scope="{scopes}"'}
        case refusals.Refusal(retry_after_s=int(wait)):
            return {"Retry-After": str(wait)}
        case _:
            return {}


def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        return unexpected(request, error)
    mistakes = root_mistakes(error.errors())
    found = [_mistake(item, error.body) for item in mistakes[:MOST_MISTAKES]]
    first = found[0]
    more = f" ({len(mistakes)} mistakes in all)" if len(mistakes) > 1 else ""
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        code="invalid_request",
        detail=f"{first.pointer}: {first.detail}{more}",
        instance=request.url.path,
        found=found,
    )


_PLACES: Final[Mapping[str, str]] = {"unknown_kind_of_plan": "#/plan/kind"}
"""Mistakes whose location is not the field to change: of a union that is told apart by a field within a field."""


def _mistake(item: Mapping[str, object], body: object) -> ProblemError:
    kind = str(item["type"])
    location = item["loc"] if isinstance(item["loc"], tuple) else ()
    source, rest = (location[0], location[1:]) if location else ("body", ())
    text = sentence(item)
    fix = _FIXES.get(kind)
    if kind == "union_tag_not_found":
        text = f"{text}; add it"
    if kind == "json_invalid":
        context = item.get("ctx")
        reason = context.get("error") if isinstance(context, Mapping) else text
        text, fix = f"the body is not JSON: {reason} at character {rest[0] if rest else 0}", None
        return ProblemError(pointer="#", detail=text, code=kind)
    if kind == "model_attributes_type":
        fix = "send a valid JSON object here"
        if not rest:
            fix = "send a JSON object, with the header Content-Type: application/json"
    if source != "body":
        # a query parameter or header has no place in the body
        where = ".".join(str(part) for part in rest)
        return ProblemError(pointer=f"#{source}/{where}", detail=f"{where}: {fix or text}", code=kind)
    at = _PLACES.get(kind) or location_pointer(rest, body, missing=kind == "missing")
    return ProblemError(pointer=at, detail=fix or text, code=kind)


def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, StarletteHTTPException):
        return unexpected(request, error)
    fixes = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.url.path}; /openapi.json lists all paths",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not allowed here; see the header Allow",
    }
    generic = error.detail == HTTPStatus(error.status_code).phrase
    detail = fixes.get(HTTPStatus(error.status_code), error.detail) if generic else error.detail
    return problem(
        error.status_code,
        code=_CODES.get(error.status_code, "http_error"),
        detail=detail,
        instance=request.url.path,
        headers=error.headers,
    )


def unexpected(request: Request, error: Exception) -> JSONResponse:
    """Details go to the log, never into the answer."""
    away = outage(error)
    if away is not None:
        log.error("outage", method=request.method, path=request.url.path, reason=str(error))
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            code="unavailable",
            detail=away,
            instance=request.url.path,
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )
    log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        code="internal_error",
        detail="the service failed, not your request; "
        "try again, and if it keeps failing, ask the operator to look at the log",
        instance=request.url.path,
    )
