"""Every error that the client raises on purpose, as one tree.

ClientError
|-- Unreachable              no service answers, after all tries
|-- NotAuditcore             something answers that is no auditcore service, such as a proxy
|-- AnswerUnreadable         the service answers something that this version cannot read
|-- InvalidArgument          the client was asked for something that cannot be sent
|-- ExtraMissing             an optional dependency is not installed
|-- Refused                  the service refuses the request, with problem details (RFC 9457)
|   |-- CredentialsRefused   401
|   |-- ScopeMissing         403
|   |-- NotFound             404
|   |-- Deleted              410
|   |-- TooManyRequests      429, also for a quota that is used up
|   `-- ServiceUnavailable   502, 503, 504
|-- JobFailed                a training or an experiment failed
|   `-- AuditFailed
|-- JobCancelled             a training or an experiment was cancelled
|   `-- AuditCancelled
`-- WaitTimeout              it has not ended in the time given; also a `TimeoutError`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Mistake:
    """One mistake in a request.

    Attributes:
        pointer: JSON pointer into the body of the request, such as `#/plan/seed`, or the field of a failed job.
        fix: What was found and how to fix it.
        code: Stable name of the mistake; None if it has none.
    """

    pointer: str
    fix: str
    code: str | None = None


class ClientError(Exception):
    """Base class of all errors of the client.

    Attributes:
        message: What is wrong and how to fix it.
        code: Stable name of the kind of problem; None where no service has named it.
        mistakes: For each mistake, where it is and how to fix it.
    """

    def __init__(self, message: str, *, code: str | None = None, mistakes: tuple[Mistake, ...] = ()) -> None:
        details = "".join(f"\n  {one.pointer}: {one.fix}" for one in mistakes)
        super().__init__(message + details)
        self.message = message
        self.code = code
        self.mistakes = mistakes


@final
class Unreachable(ClientError):
    """No service answers, after all tries.

    Attributes:
        url: Address of the service.
    """

    def __init__(self, url: str, cause: Exception) -> None:
        reason = str(cause) or type(cause).__name__
        super().__init__(f"no service answers at {url} ({reason}); start one with `auditcore serve`, or check the URL")
        self.url = url


@final
class NotAuditcore(ClientError):
    """Something answers that is no auditcore service: a proxy, or another program on that port.

    Attributes:
        url: What was asked.
        status: HTTP status of the answer.
        retry_after_s: Seconds that the answer asks to wait; None if it does not.
    """

    def __init__(self, url: str, status: int, *, retry_after_s: float | None = None) -> None:
        super().__init__(
            f"{url} answers with status {status}, but not as an auditcore service does; "
            "check the URL, and any proxy on the way"
        )
        self.url = url
        self.status = status
        self.retry_after_s = retry_after_s


@final
class AnswerUnreadable(ClientError):
    """The service answers something that this version of auditcore cannot read."""


@final
class InvalidArgument(ClientError, ValueError):
    """What the client was asked for cannot be sent, such as a URL that is none or a folder without an image."""


@final
class ExtraMissing(ClientError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        extra: What to install, as in `pip install 'auditcore[EXTRA]'`.
    """

    def __init__(self, what: str, *, extra: str) -> None:
        super().__init__(f"{what} needs the extra `{extra}`; install it with: pip install 'auditcore[client,{extra}]'")
        self.extra = extra


class Refused(ClientError):
    """The service refuses a request.

    Attributes:
        status: HTTP status.
        title: Phrase of the status.
        retry_after_s: Seconds after which the same request may succeed; None if the answer does not say.
    """

    def __init__(
        self,
        detail: str,
        *,
        title: str,
        status: int,
        code: str,
        mistakes: tuple[Mistake, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{title}: {detail}", code=code, mistakes=mistakes)
        self.title = title
        self.status = status
        self.retry_after_s = retry_after_s


@final
class CredentialsRefused(Refused):
    """Credentials are missing, unknown, expired or revoked (401).

    Attributes:
        sent: Whether the request carried credentials.
    """

    sent = False


@final
class ScopeMissing(Refused):
    """The credentials do not allow this (403)."""


@final
class NotFound(Refused):
    """There is no such thing, or not yet (404)."""


@final
class Deleted(Refused):
    """It was deleted (410)."""


@final
class TooManyRequests(Refused):
    """Too many requests, or a quota that is used up (429); `code` says which."""


@final
class ServiceUnavailable(Refused):
    """The service cannot answer now (502, 503, 504)."""


class JobFailed(ClientError):
    """A training or an experiment failed.

    Attributes:
        job_id: Its id.
        reason: Why, and how to fix it.
        field: Path of the field of the request that is the cause; None if there is none.
    """

    def __init__(self, what: str, job_id: str, *, code: str, reason: str, field: str | None) -> None:
        mistakes = () if field is None else (Mistake(field, reason, code),)
        super().__init__(f"{what} {job_id} failed" + ("" if mistakes else f": {reason}"), code=code, mistakes=mistakes)
        self.job_id = job_id
        self.reason = reason
        self.field = field


@final
class AuditFailed(JobFailed):
    """An audit failed, so that it has no report. An audit with the verdict `fail` has not failed."""


class JobCancelled(ClientError):
    """A training or an experiment was cancelled.

    Attributes:
        job_id: Its id.
    """

    def __init__(self, what: str, job_id: str) -> None:
        super().__init__(f"{what} {job_id} was cancelled", code="cancelled")
        self.job_id = job_id


@final
class AuditCancelled(JobCancelled):
    """An audit was cancelled, so that it has no report."""


@final
class WaitTimeout(ClientError, TimeoutError):
    """A job has not ended in the time given. It goes on.

    Attributes:
        job_id: Its id.
    """

    def __init__(self, what: str, job_id: str, timeout_s: float) -> None:
        super().__init__(f"{what} {job_id} has not ended within {timeout_s:g} s; it goes on, and you can wait again")
        self.job_id = job_id
