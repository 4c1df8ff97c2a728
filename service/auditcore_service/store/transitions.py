"""Every state an audit or a shard can be in, and every step between them: two tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

AuditState = Literal["queued", "running", "finalizing", "succeeded", "failed", "cancelling", "cancelled"]
ShardState = Literal["pending", "queued", "running", "done", "failed", "cancelled", "skipped"]
ShardKind = Literal["measure", "compute", "assemble"]

AUDIT_TRANSITIONS: Mapping[AuditState, frozenset[AuditState]] = {
    "queued": frozenset({"running", "failed", "cancelling", "cancelled"}),
    "running": frozenset({"finalizing", "failed", "cancelling", "cancelled"}),
    "finalizing": frozenset({"succeeded", "failed", "cancelling", "cancelled"}),
    "cancelling": frozenset({"cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
"""From -> to. A verdict of `fail` is a result: such an audit has succeeded."""

SHARD_TRANSITIONS: Mapping[ShardState, frozenset[ShardState]] = {
    "pending": frozenset({"queued", "cancelled", "skipped"}),
    "queued": frozenset({"running", "cancelled", "skipped"}),
    "running": frozenset({"done", "queued", "running", "failed", "cancelled", "skipped"}),
    "done": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
    "skipped": frozenset(),
}
"""From -> to. `running` to `running` is another worker taking over an expired lease; `skipped` is a shard that a stop
rule has made needless, which a worker that is busy with it finds out at its next heartbeat."""

SETTLED: frozenset[ShardState] = frozenset({"done", "skipped"})
"""Nothing is left to do for a shard in one of these, and its audit goes on."""

TERMINAL: frozenset[AuditState] = frozenset(state for state, to in AUDIT_TRANSITIONS.items() if not to)
"""An audit in one of these never changes again."""

ACTIVE: frozenset[AuditState] = frozenset({"queued", "running", "finalizing"})
"""An audit in one of these wants its shards computed."""


def sources(target: AuditState) -> frozenset[AuditState]:
    """States from which an audit may step to `target`."""
    return frozenset(state for state, to in AUDIT_TRANSITIONS.items() if target in to)


def shard_sources(target: ShardState) -> frozenset[ShardState]:
    """States from which a shard may step to `target`."""
    return frozenset(state for state, to in SHARD_TRANSITIONS.items() if target in to)
