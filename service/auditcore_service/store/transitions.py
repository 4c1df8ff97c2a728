"""The states of audits and shards, and the tables of allowed transitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

AuditState = Literal["queued", "running", "finalizing", "succeeded", "failed", "cancelling", "cancelled"]
ShardState = Literal["pending", "queued", "running", "done", "failed", "cancelled", "skipped"]
ShardKind = Literal["measure", "compute", "assemble", "train", "finish", "stage"]
"""`measure`, `compute` and `assemble` are of audits; `train` and `finish` of trainings; `stage` of experiments."""

JobKind = Literal["audit", "training", "experiment"]
"""What a row of the table of audits is. All of them are claimed, followed, cancelled and counted as audits are."""

LAST_KINDS: frozenset[ShardKind] = frozenset({"assemble", "finish"})
"""Kinds of shards that only make the report of an audit or a training."""

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
    "running": frozenset({"done", "queued", "failed", "cancelled", "skipped"}),
    "done": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
    "skipped": frozenset(),
}
"""From -> to. `running` to `queued`: after a fault, a postponement, or when the worker went silent. `skipped`: a stop
rule does not need the shard; a worker that is busy with it learns this at its next heartbeat."""

SETTLED: frozenset[ShardState] = frozenset({"done", "skipped"})
"""States in which nothing is left to do for a shard, while its audit continues."""

TERMINAL: frozenset[AuditState] = frozenset(state for state, to in AUDIT_TRANSITIONS.items() if not to)
"""States in which an audit never changes again."""

ACTIVE: frozenset[AuditState] = frozenset({"queued", "running", "finalizing"})
"""States in which an audit needs its shards computed."""


def sources(target: AuditState) -> frozenset[AuditState]:
    """Return the states from which an audit may move to `target`."""
    return frozenset(state for state, to in AUDIT_TRANSITIONS.items() if target in to)


def shard_sources(target: ShardState) -> frozenset[ShardState]:
    """Return the states from which a shard may move to `target`."""
    return frozenset(state for state, to in SHARD_TRANSITIONS.items() if target in to)
