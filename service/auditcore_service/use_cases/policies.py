"""What can be done with policies: store, look up by digest or by name and version, list. Knows nothing of HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from auditcore.contracts.canonical_json import canonical_json
from auditcore.contracts.policy_document import PolicyDigest, PolicyDocument, PolicyName
from auditcore.contracts.shipped_policies import policy_among, shipped_policies, unknown_policy
from auditcore_service.principals import Principal
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import append_entry
from auditcore_service.store.policies import (
    StoredPolicy,
    find_named_policy,
    find_policy,
    insert_policy,
    list_policies,
    list_policy_labels,
)
from auditcore_service.use_cases.cursors import decode_cursor, encode_cursor
from auditcore_service.use_cases.refusals import NotFound, PolicyExists

_NAME: TypeAdapter[str] = TypeAdapter(PolicyName)


@final
@dataclass(frozen=True)
class ListedPolicy:
    """A policy that requests may name.

    Attributes:
        digest: sha256 of its canonical JSON.
        document: The policy.
        created_at: When it was stored, seconds since 1970; None for a policy that comes with auditcore.
    """

    digest: str
    document: PolicyDocument
    created_at: float | None


@final
class Policies:
    """The use cases."""

    def __init__(self, *, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def store(self, principal: Principal, document: PolicyDocument) -> tuple[ListedPolicy, bool]:
        """Store a policy; storing the same document again changes nothing.

        Returns:
            The policy, and whether it is new.

        Raises:
            PolicyExists: Its name and version belong to another document, or its name to policies of auditcore.
        """
        digest = document.digest
        with self._database.reading(principal.tenant) as connection:
            known = find_policy(connection, digest)
        if known is not None:
            return _listed(known), False
        shipped = [one for one in shipped_policies() if one.name == document.name]
        if document in shipped:
            return ListedPolicy(digest, document, None), False
        if shipped:
            msg = f"the name {document.name!r} belongs to a policy that comes with auditcore; choose another name"
            raise PolicyExists(msg, field="name")
        now = self._clock()
        with self._database.writing(principal.tenant) as connection:
            new = insert_policy(
                connection,
                digest=digest,
                name=document.name,
                version=document.version,
                document=canonical_json(document).decode(),
                now=now,
            )
            if new:
                data = {"name": document.name, "version": document.version}
                append_entry(connection, "policy", digest, data, now=now, principal=principal.name)
            stored = find_named_policy(connection, document.name, document.version)
        if stored is None or stored.digest != digest:
            msg = f"{document.label} is stored with other content; a version never changes, so choose another version"
            raise PolicyExists(msg, field="version")
        return _listed(stored), new

    def find(self, principal: Principal, reference: PolicyDigest | PolicyName) -> PolicyDocument:
        """The policy that a request names.

        Raises:
            InvalidRequest: There is none; the message lists the versions that there are.
        """
        with self._database.reading(principal.tenant) as connection:
            found = _find(connection, reference)
            if found is not None:
                return PolicyDocument.model_validate_json(found.document)
            name = None if isinstance(reference, PolicyDigest) else reference.partition("@")[0]
            stored = () if name is None else list_policy_labels(connection, name)
        shipped = policy_among(shipped_policies(), reference)
        if shipped is not None:
            return shipped
        raise unknown_policy(reference, [*(one.label for one in shipped_policies()), *stored])

    def content(self, principal: Principal, reference: str) -> tuple[str, bytes]:
        """Digest and canonical JSON of a policy, whose sha256 is the digest.

        Args:
            principal: Who asks.
            reference: A digest, or name and version such as `pre-deployment@1.0.0`.

        Raises:
            NotFound: There is none.
        """
        wanted = _parsed(reference)
        if wanted is not None:
            with self._database.reading(principal.tenant) as connection:
                found = _find(connection, wanted)
            if found is not None:
                return found.digest, found.document.encode()
            shipped = policy_among(shipped_policies(), wanted)
            if shipped is not None:
                return shipped.digest, canonical_json(shipped)
        msg = (
            f"there is no policy {reference[:97]!r}; name it by its digest or as name@version, and see GET /v1/policies"
        )
        raise NotFound(msg)

    def page(
        self, principal: Principal, *, cursor: str | None, limit: int
    ) -> tuple[tuple[ListedPolicy, ...], str | None]:
        """Policies, newest first and those of auditcore last, and the cursor of the next page.

        Raises:
            InvalidCursor: The cursor is not from this service.
        """
        after = None if cursor is None else decode_cursor(cursor)
        with self._database.reading(principal.tenant) as connection:
            stored = [_listed(one) for one in list_policies(connection, after=after, limit=limit + 1)]
        shipped = sorted(
            (ListedPolicy(one.digest, one, None) for one in shipped_policies()), key=_position, reverse=True
        )
        found = [*stored, *(one for one in shipped if after is None or _position(one) < after)]
        page = tuple(found[:limit])
        return page, encode_cursor(*_position(page[-1])) if len(found) > limit else None


def _parsed(reference: str) -> PolicyDigest | PolicyName | None:
    """The reference in an address; None if no policy can have it."""
    try:
        return PolicyDigest(digest=reference) if reference.startswith("sha256:") else _NAME.validate_python(reference)
    except ValidationError:
        return None


def _position(policy: ListedPolicy) -> tuple[float, str]:
    """Where a policy is in the list; those of auditcore count as the oldest."""
    return policy.created_at or 0.0, policy.digest


def _find(connection: Connection, reference: PolicyDigest | PolicyName) -> StoredPolicy | None:
    if isinstance(reference, PolicyDigest):
        return find_policy(connection, reference.digest)
    name, _, version = reference.partition("@")
    return find_named_policy(connection, name, version)


def _listed(stored: StoredPolicy) -> ListedPolicy:
    return ListedPolicy(stored.digest, PolicyDocument.model_validate_json(stored.document), stored.created_at)
