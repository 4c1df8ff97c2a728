"""The OpenAPI document: what FastAPI derives from the routes, with errors as problem details."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from auditcore_service.gateway.authenticate import is_public
from auditcore_service.gateway.problem_responses import (
    CONTENT_TOO_LARGE,
    INVALID_BODY,
    MALFORMED_FORM,
    REQUEST_TIMEOUT,
    TOO_MANY_REQUESTS,
    problem_example,
    problem_responses,
)
from auditcore_service.gateway.rate_limits import is_limited
from auditcore_service.gateway.routes.principals import BEARER
from auditcore_service.gateway.schemas import Problem

CREDENTIALS_MISSING = problem_example(
    401,
    "credentials_missing",
    "this service answers only those it knows; send the header `Authorization: Bearer ` with an API key; "
    "the operator makes keys with `auditcore keys create`",
)
CREDENTIALS_INVALID = problem_example(
    401,
    "credentials_invalid",
    "the API key 'nightly' expired at 2026-11-22T12:00:00.000Z; ask the operator for a new one",
)


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1 of an app whose routes declare their problems and examples themselves.

    FastAPI adds a 422 of its own form to every operation with parameters, and knows no schema for a response of another
    media type than its default. This service answers every error as problem details (`problems.py`).
    """
    document = FastAPI.openapi(app)
    schemas = document["components"]["schemas"]
    for generated in ("HTTPValidationError", "ValidationError"):
        schemas.pop(generated, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    # pydantic's own schema of any JSON value has none, and generators name their classes after titles
    for name, schema in schemas.items():
        schema.setdefault("title", name)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            invalid = operation["responses"].get("422", {})
            if "application/json" in invalid.get("content", {}):
                del operation["responses"]["422"]
            if not is_public(method.upper(), path):
                _declare_credentials(operation)
            if is_limited(path):
                _declare_limits(operation)
            if "requestBody" in operation:
                _declare_bodies(operation)
            _declare_unavailable(operation)
    return document


def _declare_credentials(operation: dict[str, Any]) -> None:
    """Say that an operation needs credentials, and what it answers without them: the same for all, so said once."""
    scopes = operation.setdefault("security", [{BEARER.scheme_name: []}])[0][BEARER.scheme_name]
    refused = problem_responses(CREDENTIALS_MISSING, CREDENTIALS_INVALID)
    if scopes:
        missing = problem_example(
            403,
            "scope_missing",
            f"these credentials lack the scope {scopes[0]}, which this needs; use others, or ask for a key that has it",
        )
        refused |= problem_responses(missing)
    for status, response in refused.items():
        headers = {"WWW-Authenticate": {"description": "As RFC 6750 says.", "schema": {"type": "string"}}}
        operation["responses"][str(status)] = {**response, "headers": headers}


def _declare_bodies(operation: dict[str, Any]) -> None:
    """Say what every operation with a body answers to one that is not valid, too large or sent too slowly."""
    examples = [CONTENT_TOO_LARGE, REQUEST_TIMEOUT, INVALID_BODY]
    if "multipart/form-data" in operation["requestBody"]["content"]:
        examples.append(MALFORMED_FORM)
    for status, response in problem_responses(*examples).items():
        operation["responses"].setdefault(str(status), response)


def _declare_unavailable(operation: dict[str, Any]) -> None:
    """Say what `Retry-After` of a 503 means."""
    operation["responses"]["503"]["headers"] = {
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
    }


def _declare_limits(operation: dict[str, Any]) -> None:
    """Say that an operation answers 429, unless it says so itself, and what the headers of this answer mean."""
    (status, default), *_ = problem_responses(TOO_MANY_REQUESTS).items()
    response = operation["responses"].setdefault(str(status), default)
    response["headers"] = {
        "Retry-After": {"description": "Seconds to wait, where waiting helps.", "schema": {"type": "integer"}},
        "RateLimit-Policy": {
            "description": "The limits on requests: each by its name, the requests allowed (q) and the seconds in "
            "which they are counted (w). Every answer has it where requests are limited.",
            "schema": {"type": "string"},
            "example": '"tenant";q=600;w=60',
        },
        "RateLimit": {
            "description": "Where each of these limits stands: the requests left (r), and the seconds until all are "
            "allowed again (t).",
            "schema": {"type": "string"},
            "example": '"tenant";r=0;t=23',
        },
    }
