"""Records that the store returns: small, frozen, without open cursors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from auditcore_service.store.transitions import AuditState, JobKind, ShardKind, ShardState


@final
@dataclass(frozen=True, order=True)
class ShardKey:
    """Identifies one shard."""

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
    """A shard to insert with its audit.

    Attributes:
        weight: Its work, in any unit that all shards of the audit share.
        model: Position of its model in the request, from 0.
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
        start: First image, from 0; in the compute wave of an audit with a stop rule, the position in the random order;
            of a training, the first step; of a stage, 0.
        stop: One past the last image, or step; 1 of a stage of an experiment.
        attempt: How often it has been claimed. It only tells one claim from another, and limits nothing.
        lease_until: End of its worker's lease, seconds since 1970.
        progress: Finished share, in [0, 1].
        model: Position of its model in the request, from 0.
        faults: How often its computation has failed on its own account, or was ended because it took too long.
        losses: How often its worker went silent since it last made progress.
        deaths: How often an image of it has ended the process that computed.
        postponements: How often the environment has sent it back to the queue since it last made progress.
        not_before: No worker may claim it earlier, seconds since 1970.
        waiting_for: What of the environment it waits for, if it was postponed; None otherwise.
        left_out: Code of the error with which its only image is left out, because it ends every process that computes
            it; None otherwise.
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
    faults: int = 0
    losses: int = 0
    deaths: int = 0
    postponements: int = 0
    not_before: float | None = None
    waiting_for: str | None = None
    left_out: str | None = None


@final
@dataclass(frozen=True)
class Waiting:
    """Why shards of an audit wait, although workers may be free.

    Attributes:
        reason: `database`, `blob_store`, `queue`, `disk`, `network` or `resource` if the environment was the cause;
            `retry` after a fault or a lost worker.
        until: When the first of them may be claimed, seconds since 1970.
    """

    reason: str
    until: float


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
    """Numbers of shards of an audit; `fraction` is the finished share of the work, in [0, 1].

    A shard that a stop rule has skipped counts as done.
    """

    done: int
    total: int
    failed: int
    fraction: float


@final
@dataclass(frozen=True)
class Audit:
    """An audit, a training or an experiment as stored. Times are seconds since 1970 UTC.

    `request`, `plan` and `estimate` are JSON.

    Attributes:
        kind: Which of them it is.
        plan: The plan; of an experiment, whose request has its plan, what is known of its images (`ExperimentSets`).
        tenant: Whose it is.
        estimate: Its estimated cost when it was accepted; None for audits of earlier releases without estimates.
        replay_of: Id of the audit that it repeats; None if it is no replay.
        name: Its name; None if it has none.
        tags: Key and value of each tag, by key.
        waiting: What it waits for; None if no shard of it has to wait.
        weights_digest: File of weights that a training, or an experiment for a model, has made; None until then, and of
            an audit.
    """

    id: str
    tenant: str
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
    replay_of: str | None = None
    name: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    waiting: Waiting | None = None
    kind: JobKind = "audit"
    weights_digest: str | None = None


@final
@dataclass(frozen=True)
class Event:
    """An event of an audit; ids increase."""

    id: int
    kind: str
    data: str


@final
@dataclass(frozen=True)
class Step:
    """Result of a transaction on a shard.

    Attributes:
        applied: False if the caller no longer owned the shard, so nothing changed.
        opened: Shards that became `queued`; announce them to workers after the commit.
    """

    applied: bool
    opened: tuple[QueuedShard, ...] = ()
