"""An append-only log whose entries are chained by their hashes, and the check of a chain.

The hash of an entry is sha256 over the canonical JSON (RFC 8785) of everything else in it, the hash of the entry before
included. So no entry can be changed, removed, inserted or moved without changing the hash of every later one. With the
hash of the last entry, the head, from an earlier time one can also see that entries at the end are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, final

import rfc8785
from pydantic import Field

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Contract, Sha256
from auditcore.evidence.findings import Finding, differences

LOG_HEAD_TYPE: Final = "application/vnd.auditcore.log-head+json"
"""Type of the payload of a signed head."""

START: Final[Sha256] = f"sha256:{'0' * 64}"
"""What the first entry of a chain has in place of the hash of an entry before."""

EntryKind = Literal[
    "submit", "state", "cancel", "evidence", "sign_off", "delete", "policy", "key", "api_key", "webhook"
]
"""What an entry can be about: an audit that is submitted, changes its state, is asked to stop, gets evidence, or is
signed off; an audit, an image batch or a file of maps that is deleted; a policy that is stored; a key with which a
gateway starts to sign; an API key that is created, rotated or revoked; and a webhook that is created, rotated, disabled
or deleted."""


@final
class LogEntry(Contract):
    """One entry. Any text is read into it, so that an entry that was changed is found and not refused.

    Attributes:
        tenant: Whose log it is; every tenant has a chain of its own.
        sequence: Its number, from 1 without a gap.
        time: When it was appended, RFC 3339.
        principal: Who caused it; null for the service itself, and where no name was given.
        kind: What happened.
        subject: What it happened to: the id of an audit, a key, an API key or a webhook, or the digest of a policy, an
            image batch or a file of maps.
        data: More about it.
        previous: Hash of the entry before; 64 zeros for the first one.
        hash: sha256 over the canonical JSON of all other fields.
    """

    tenant: str
    sequence: int
    time: str
    principal: str | None
    kind: str
    subject: str
    data: dict[str, Any]
    previous: str
    hash: str


@final
class LogHead(Contract):
    """The last entry of a log at some time. Keep one to see later whether entries at the end are missing.

    Attributes:
        tenant: Whose log it is.
        sequence: Number of the last entry; 0 for an empty log.
        hash: Its hash; 64 zeros for an empty log.
        time: When this was the head, RFC 3339.
    """

    tenant: str
    sequence: int = Field(ge=0)
    hash: Sha256
    time: str


def chained(
    *,
    tenant: str,
    sequence: int,
    time: str,
    principal: str | None,
    kind: EntryKind,
    subject: str,
    data: dict[str, Any],
    previous: str,
) -> LogEntry:
    """The entry with these fields and its hash."""
    fields: dict[str, Any] = {
        "tenant": tenant,
        "sequence": sequence,
        "time": time,
        "principal": principal,
        "kind": kind,
        "subject": subject,
        "data": data,
        "previous": previous,
    }
    return LogEntry(**fields, hash=digest_of(fields))


def verify_chain(entries: Iterable[LogEntry], head: LogHead | None = None) -> Iterator[Finding]:
    """Verify the chain of one tenant.

    Args:
        entries: All its entries, in the order of their numbers.
        head: An earlier head of it, from a source that is trusted.

    Yields:
        Everything that does not hold. A change of entry N is found at N, and at N + 1 if its hash was changed as well.
    """
    previous: str = START
    tenant, sequence = None, 0
    reached: str | None = START if head is not None and head.sequence == 0 else None
    for entry in entries:
        sequence += 1
        where = f"entry {entry.sequence}"
        tenant = tenant or entry.tenant
        if entry.sequence != sequence:
            yield Finding(where, f"follows entry {sequence - 1}; the entries in between are missing or out of order")
            sequence = entry.sequence
        yield from differences(entry.tenant, tenant, f"{where}.tenant")
        yield from differences(entry.previous, previous, f"{where}.previous")
        content = entry.model_dump(mode="json", exclude={"hash"})
        try:
            computed = digest_of(content)
        except rfc8785.CanonicalizationError as error:
            yield Finding(where, f"has no canonical JSON form ({error})")
        else:
            yield from differences(entry.hash, computed, f"{where}.hash")
        previous = entry.hash
        if head is not None and entry.sequence == head.sequence:
            reached = entry.hash
    if head is None:
        return
    if tenant is not None:
        yield from differences(tenant, head.tenant, "log.tenant")
    if reached is None:
        yield Finding("log", f"ends at entry {sequence}, but had entry {head.sequence} at {head.time}")
    else:
        yield from differences(reached, head.hash, f"entry {head.sequence}.hash")
