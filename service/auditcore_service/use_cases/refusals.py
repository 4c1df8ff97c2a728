"""What the service refuses, besides the errors of the library. Knows nothing of HTTP.

Refusal
|-- NotFound                 not_found
|   `-- Deleted              deleted
|-- ReportNotReady           report_not_ready
|-- SigningNotConfigured     signing_not_configured
|-- NotRegistered            not_registered
|-- NotReplayed              not_replayed
|-- InvalidCursor            invalid_cursor
|-- NotAcceptable            not_acceptable
|-- UnsupportedUpload        unsupported_media_type
|-- InvalidUpload            invalid_upload
|-- InvalidIdempotencyKey    invalid_idempotency_key
|-- IdempotencyKeyReused     idempotency_key_reused
|-- BudgetExceeded           budget_exceeded
|-- QuotaExceeded            quota_exceeded
|-- TooManyRequests          too_many_requests
|-- PolicyExists             policy_exists
|-- TooManyWebhooks          too_many_webhooks
|-- WebhookDisabled          webhook_disabled
|-- AuditUnderWay            audit_under_way
|-- UsedByAudit              used_by_audit
|-- ModelRefused             the code of the worker's error
|-- CredentialsMissing       credentials_missing
|-- CredentialsInvalid       credentials_invalid
|-- IssuerUnavailable        issuer_unavailable
|-- ScopeMissing             scope_missing
|-- HostUnknown              host_unknown
|-- CrossSiteRequest         cross_site_request
|-- ApiKeyExists             api_key_exists
|-- ApiKeyEnded              api_key_ended
|-- InvalidExpiry            invalid_expiry
`-- RequestInFlight          request_in_flight
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class Refusal(Exception):
    """Base class of all refusals.

    Attributes:
        code: Stable machine-readable name.
        message: What was found and how to fix it.
        field: The part of the request that is wrong, if it is known.
        retry_after_s: Seconds after which the same request may succeed; None if waiting does not help, or if nobody
            knows how long.
    """

    code: ClassVar[str] = "refused"
    retry_after_s: int | None = None

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class NotFound(Refusal):
    """No such audit or batch."""

    code = "not_found"


class Deleted(NotFound):
    """There was such an object, and it was deleted."""

    code = "deleted"


class ReportNotReady(Refusal):
    """The audit has no report, or not yet."""

    code = "report_not_ready"


class SigningNotConfigured(Refusal):
    """The service has no key to sign with."""

    code = "signing_not_configured"


class NotRegistered(Refusal):
    """The audit, or training, was submitted while the service had no signing key, so that it has no evidence."""

    code = "not_registered"


class NotReplayed(Refusal):
    """The audit is no replay of another."""

    code = "not_replayed"


class InvalidCursor(Refusal):
    """A page cursor that this service did not give out."""

    code = "invalid_cursor"


class NotAcceptable(Refusal):
    """The report has no representation that the client accepts."""

    code = "not_acceptable"


class UnsupportedUpload(Refusal):
    """An upload that is not a multipart form."""

    code = "unsupported_media_type"


class InvalidUpload(Refusal):
    """An image batch that cannot be stored as it is."""

    code = "invalid_upload"


class InvalidIdempotencyKey(Refusal):
    """An Idempotency-Key that is empty, too long or not printable."""

    code = "invalid_idempotency_key"


class IdempotencyKeyReused(Refusal):
    """The key was sent before, with another body."""

    code = "idempotency_key_reused"


class BudgetExceeded(Refusal):
    """The estimated cost of the audit exceeds the operator's budget."""

    code = "budget_exceeded"


class QuotaExceeded(Refusal):
    """The request needs more of a tenant's limit than is left."""

    code = "quota_exceeded"

    def __init__(self, message: str, *, field: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message, field=field)
        self.retry_after_s = retry_after_s


class TooManyRequests(Refusal):
    """More requests came within a minute than are allowed."""

    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SignerUnknown(Refusal):
    """A sign-off names nobody, and the service does not know who sent it."""

    code = "signer_unknown"


class SignerMismatch(Refusal):
    """A principal signs a report off in the name of another."""

    code = "signer_mismatch"


class PolicyExists(Refusal):
    """The name and version of a policy belong to another document."""

    code = "policy_exists"


class TooManyWebhooks(Refusal):
    """The tenant has as many webhooks as it may have."""

    code = "too_many_webhooks"


class WebhookDisabled(Refusal):
    """The service no longer sends to this webhook."""

    code = "webhook_disabled"


class AuditUnderWay(Refusal):
    """An audit that has not ended cannot be deleted."""

    code = "audit_under_way"


class UsedByAudit(Refusal):
    """An audit that has not ended needs an upload that is to be deleted."""

    code = "used_by_audit"


class ModelRefused(Refusal):
    """A worker could not load a model.

    Attributes:
        code: Code of the error that the worker met.
    """

    code = "model_refused"

    def __init__(self, message: str, *, code: str = "model_refused", field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.code = code  # type: ignore[misc]  # the code of the error that this one represents


class CredentialsMissing(Refusal):
    """A request without credentials, where they are needed."""

    code = "credentials_missing"


class CredentialsInvalid(Refusal):
    """Credentials that are unknown, expired, revoked or not meant for this service."""

    code = "credentials_invalid"


class IssuerUnavailable(Refusal):
    """The issuer of tokens does not answer, so that no token can be checked."""

    code = "issuer_unavailable"
    retry_after_s = 5


class HostUnknown(Refusal):
    """A request to a name that is not one of the service, such as that of a site which leads to its address."""

    code = "host_unknown"


class CrossSiteRequest(Refusal):
    """A request that a web page of another site sent."""

    code = "cross_site_request"


class ScopeMissing(Refusal):
    """Known credentials that do not allow this.

    Attributes:
        scopes: What is missing.
    """

    code = "scope_missing"

    def __init__(self, message: str, *, scopes: Sequence[str] = (), field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.scopes = tuple(scopes)


class ApiKeyExists(Refusal):
    """The name of a new API key was used before."""

    code = "api_key_exists"


class ApiKeyEnded(Refusal):
    """An API key that was revoked or has expired gets no other secret."""

    code = "api_key_ended"


class InvalidExpiry(Refusal):
    """A new API key would have expired already, or practically never."""

    code = "invalid_expiry"


class RequestInFlight(Refusal):
    """The first request with this key is still being answered."""

    code = "request_in_flight"
    retry_after_s = 1
