"""The policies that come with auditcore, and how a request gets the policy that it names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files

from auditcore.contracts.policy_document import PolicyDigest, PolicyDocument, PolicyName
from auditcore.contracts.request import AuditRequest
from auditcore.errors import InvalidRequest

_MOST_LISTED = 20
"""Policies that a message lists, the newest of them; GET /v1/policies lists all."""

FindPolicy = Callable[[PolicyDigest | PolicyName], PolicyDocument]
"""Returns the document that a request names; raises InvalidRequest, with the field `policy`, if there is none."""


@functools.cache
def shipped_policies() -> tuple[PolicyDocument, ...]:
    """The policies that come with auditcore, in the order of their names."""
    folder = files("auditcore") / "policies"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".json")), key=lambda entry: entry.name)
    return tuple(PolicyDocument.model_validate_json(entry.read_bytes()) for entry in found)


def find_shipped_policy(reference: PolicyDigest | PolicyName) -> PolicyDocument:
    """The policy that comes with auditcore under this digest, or this name and version.

    Raises:
        InvalidRequest: There is none; the message lists those that there are.
    """
    found = policy_among(shipped_policies(), reference)
    if found is None:
        raise unknown_policy(reference, [one.label for one in shipped_policies()])
    return found


def policy_among(documents: Iterable[PolicyDocument], reference: PolicyDigest | PolicyName) -> PolicyDocument | None:
    """The document with this digest, or this name and version; None if there is none."""
    if isinstance(reference, PolicyDigest):
        return next((one for one in documents if one.digest == reference.digest), None)
    return next((one for one in documents if one.label == reference), None)


def unknown_policy(reference: PolicyDigest | PolicyName, known: Sequence[str]) -> InvalidRequest:
    """The error for a policy that does not exist.

    Args:
        reference: What was asked for.
        known: Policies that exist, such as `quick-look@1.0.0`. The message lists those with the same name, or all of
            them if there is none.
    """
    if isinstance(reference, PolicyDigest):
        msg = f"there is no policy {reference.digest}; store it with POST /v1/policies, or send its conditions"
        return InvalidRequest(msg, field="policy.digest")
    name = reference.partition("@")[0]
    same = [label for label in known if label.partition("@")[0] == name]
    listed = (same or list(known))[-_MOST_LISTED:]
    return InvalidRequest(f"there is no policy {reference!r}; use one of: {', '.join(listed)}", field="policy")


def with_policy(request: AuditRequest, find: FindPolicy = find_shipped_policy) -> AuditRequest:
    """The request with the whole document of the policy that it names; unchanged if it has conditions or a document.

    Args:
        request: What to audit.
        find: Looks up documents; only those that come with auditcore by default.

    Raises:
        InvalidRequest: There is no such policy, or the stop rule of the request cannot decide it.
    """
    if not isinstance(request.policy, PolicyDigest | str):
        return request
    found = request.model_copy(update={"policy": find(request.policy)})
    if found.objection_to_stop is not None:
        raise InvalidRequest(found.objection_to_stop, field="stop")
    return found
