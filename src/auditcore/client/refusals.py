"""The error that an answer reports."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
from pydantic import ValidationError

from auditcore.client.answers import Problem
from auditcore.client.errors import (
    CredentialsRefused,
    Deleted,
    Mistake,
    NotAuditcore,
    NotFound,
    Refused,
    ScopeMissing,
    ServiceUnavailable,
    TooManyRequests,
)
from auditcore.client.retries import retry_after_s

_KINDS: dict[int, type[Refused]] = {
    401: CredentialsRefused,
    403: ScopeMissing,
    404: NotFound,
    410: Deleted,
    429: TooManyRequests,
    502: ServiceUnavailable,
    503: ServiceUnavailable,
    504: ServiceUnavailable,
}


def refusal_of(answer: httpx.Response) -> Refused | NotAuditcore:
    """The error that an answer reports, with the mistakes that its problem details list.

    Args:
        answer: An answer that is no success, whose body has been read.

    Returns:
        `NotAuditcore` if the body has no problem details: something between here and the service answered.
    """
    pause = retry_after_s(answer.headers.get("Retry-After"), now=datetime.now(UTC))
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        return NotAuditcore(str(answer.request.url), answer.status_code, retry_after_s=pause)
    error = _KINDS.get(answer.status_code, Refused)(
        problem.detail,
        title=problem.title,
        status=answer.status_code,
        code=problem.code,
        mistakes=tuple(Mistake(one.pointer, one.detail, one.code) for one in problem.errors),
        retry_after_s=pause,
    )
    if isinstance(error, CredentialsRefused):
        error.sent = "Authorization" in answer.request.headers
    return error
