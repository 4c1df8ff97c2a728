"""Problems as a route declares them for the OpenAPI document: status, media type and an example of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from auditcore_service.gateway.problems import MEDIA_TYPE, problem_type, status_title
from auditcore_service.gateway.schemas import Problem, ProblemError

SCHEMA: Final = {"$ref": "#/components/schemas/Problem"}


def problem_example(status: int, code: str, detail: str, *, pointer: str | None = None) -> Problem:
    """A problem as the service answers it.

    Args:
        status: HTTP status.
        code: Stable name of the problem.
        detail: What is wrong and how to fix it.
        pointer: JSON pointer to the mistake in the request, if there is one.
    """
    found = () if pointer is None else (ProblemError(pointer=pointer, detail=detail, code=code),)
    return Problem(
        type=problem_type(code),
        title=status_title(status),
        status=status,
        detail=detail,
        code=code,
        errors=found,
    )


def problem_responses(*examples: Problem) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers these problems."""
    by_status: dict[int | str, list[Problem]] = {}
    for example in examples:
        by_status.setdefault(example.status, []).append(example)
    return {status: _response(several) for status, several in by_status.items()}


def json_example(value: object, **more: Mapping[str, Any]) -> dict[str, Any]:
    """A response with an example of its JSON body.

    Args:
        value: The example.
        more: Other parts of the response, such as `headers` and `links`.
    """
    return {"content": {"application/json": {"example": value}}, **more}


def _response(examples: list[Problem]) -> dict[str, Any]:
    values = {example.code: example.model_dump(mode="json", exclude_defaults=True) for example in examples}
    shown: dict[str, Any] = (
        {"example": next(iter(values.values()))}
        if len(values) == 1
        else {"examples": {code: {"value": value} for code, value in values.items()}}
    )
    return {"description": examples[0].title, "content": {MEDIA_TYPE: {"schema": SCHEMA, **shown}}}


INTERNAL_ERROR: Final = problem_example(
    500,
    "internal_error",
    "the service failed, not your request; try again, and if it keeps failing, ask the operator to look at the log",
)
"""Every operation may answer this."""

UNAVAILABLE: Final = problem_example(
    503,
    "unavailable",
    "the database has no room left on its disk; send the request again in some seconds, and if it keeps failing, tell "
    "the operator",
)
"""Every operation may answer this."""

REQUEST_TIMEOUT: Final = problem_example(
    408,
    "request_timeout",
    "the body makes no progress: 1024 bytes in 30 s; send it again over a better connection",
)
"""Every operation with a body may answer this."""

INVALID_BODY: Final = problem_example(
    422,
    "invalid_request",
    "#/plan/seed: write a number here; this is a boolean",
    pointer="#/plan/seed",
)
"""Every operation with a body may answer this."""

MALFORMED_FORM: Final = problem_example(400, "malformed_request", "Missing boundary in multipart.")
"""Every operation that takes a form may answer this."""

CONTENT_TOO_LARGE: Final = problem_example(
    413,
    "content_too_large",
    "the body has more than the 67108864 bytes allowed; send less, or ask the operator to raise the limit",
)

UNSAFE_REFERENCE: Final = problem_example(
    422,
    "unsafe_reference",
    "factory 'os:system' is not allowed; the operator can add it (AUDIT_FACTORIES)",
    pointer="#/model/target",
)

TOO_MANY_REQUESTS: Final = problem_example(
    429,
    "too_many_requests",
    "tenant 'research' has sent more than the 600 requests allowed in 60 seconds; wait 23 seconds, and ask less often; "
    "the operator can raise the limit with `auditcore tenants set`",
)
"""Every operation that counts requests may answer this."""

QUOTA_OF_BYTES: Final = problem_example(
    429,
    "quota_exceeded",
    "tenant 'research' stores 10737418000 bytes of image batches and maps, its limit is 10737418240, and these are "
    "240512 more; delete what you no longer need, or send less; the operator can raise the limit with `auditcore "
    "tenants set`",
    pointer="#/images",
)

QUOTA_OF_AUDITS: Final = problem_example(
    429,
    "quota_exceeded",
    "tenant 'research' has 4 audits, trainings and experiments that wait or run, and its limit is 4; wait until one "
    "ends, or cancel one; the operator can raise the limit with `auditcore tenants set`",
)
