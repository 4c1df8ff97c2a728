"""What the store hands out: small frozen records, no open cursors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from auditcore_service.store.transitions import AuditState, ShardKind, ShardState


@final
@dataclass(frozen=True, order=True)
class ShardKey:
    """Names one shard; the only thing that travels through the queue."""

    audit_id: str
    wave: int
    index: int


@final
@dataclass(frozen=True)
class QueuedShard:
    """A shard to announce to the workers; its kind decides through which queue."""

    key: ShardKey
    kind: ShardKind


@final
@dataclass(frozen=True)
class NewShard:
    """A shard to be written with its audit.

    Attributes:
        weight: Its share of the audit's work, in any unit common to the audit.
        model: Which of the request's models it runs, counted from 0.
    """

    wave: int
    index: int
    kind: ShardKind
    start: int
    stop: int
    weight: float
    model: int = 0


@final
@dataclass(frozen=True)
class Shard:
    """A shard as stored.

    Attributes:
        start: First image, counted from 0; in the compute wave of an audit with a stop rule in its random order.
        stop: One past the last image.
        attempt: How often it has been claimed.
        lease_until: Until when its worker may stay silent, seconds since 1970.
        progress: Share done, in [0, 1].
        model: Which of the request's models it runs, counted from 0.
    """

    key: ShardKey
    kind: ShardKind
    state: ShardState
    attempt: int
    start: int
    stop: int
    progress: float
    lease_until: float | None
    result_digest: str | None
    error: str | None
    model: int


@final
@dataclass(frozen=True)
class Failure:
    """Why an audit failed: stable code, a sentence that says how to fix it, and the field that is wrong, if any."""

    code: str
    message: str
    field: str | None = None


@final
@dataclass(frozen=True)
class Progress:
    """Shards of an audit, counted; `fraction` is the share of the work done, in [0, 1].

    A shard that a stop rule made needless counts as done: nothing is left to do for it.
    """

    done: int
    total: int
    failed: int
    fraction: float


@final
@dataclass(frozen=True)
class Audit:
    """An audit as stored. `request`, `plan` and `estimate` are JSON; times are seconds since 1970 UTC.

    Attributes:
        estimate: What it was expected to cost when it was accepted; None for audits of releases that made none.
    """

    id: str
    state: AuditState
    request: str
    plan: str
    images: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    verdict: str | None
    report_digest: str | None
    failure: Failure | None
    progress: Progress
    estimate: str | None = None


@final
@dataclass(frozen=True)
class Event:
    """Something that happened to an audit; ids count up."""

    id: int
    kind: str
    data: str


@final
@dataclass(frozen=True)
class Step:
    """What a transaction did.

    Attributes:
        applied: False when the caller's attempt was no longer its own, so nothing changed.
        opened: Shards that became `queued` and are to be announced to workers, after the commit.
    """

    applied: bool
    opened: tuple[QueuedShard, ...] = ()
