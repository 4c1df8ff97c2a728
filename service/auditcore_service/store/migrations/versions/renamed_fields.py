"""Rename fields of plans in stored requests, and compute again what unfinished audits measured under the old names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NAMES = {"families": "augmentations", "family": "augmentation"}
"""Old name of a field of a plan -> its new name."""

UNFINISHED = ("queued", "running", "finalizing")
ENDED = ("failed", "cancelled", "skipped")

AUDITS = sa.table("audits", *(sa.column(name) for name in ("id", "state", "request", "plan")))
SHARDS = sa.table(
    "shards",
    *(
        sa.column(name)
        for name in ("audit_id", "wave", "state", "attempt", "progress", "lease_until", "queued_at", "result_digest")
    ),
)


def upgrade() -> None:
    """Write requests and plans with the new names."""
    _rewrite(NAMES)


def downgrade() -> None:
    """Write requests and plans with the old names."""
    _rewrite({new: old for old, new in NAMES.items()})


def _rewrite(names: Mapping[str, str]) -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(AUDITS)).all():
        changed = {column: _renamed(getattr(row, column), names) for column in ("request", "plan")}
        if changed != {"request": row.request, "plan": row.plan}:
            connection.execute(sa.update(AUDITS).where(AUDITS.c.id == row.id).values(changed))
        if row.state in UNFINISHED:
            _begin_again(connection, row.id)
    # answers are kept for an hour only, and a client that waits for one asks again
    connection.execute(sa.text("DELETE FROM inspections"))


def _begin_again(connection: sa.Connection, audit_id: str) -> None:
    """Put an unfinished audit back to its first wave: results of its shards have the other names."""
    open_shards = (SHARDS.c.audit_id == audit_id) & SHARDS.c.state.not_in(ENDED)
    if not connection.execute(sa.select(SHARDS.c.wave).where(open_shards & (SHARDS.c.state == "done"))).first():
        return
    first = connection.execute(sa.select(sa.func.min(SHARDS.c.wave)).where(SHARDS.c.audit_id == audit_id)).scalar_one()
    unclaimed = {"attempt": 0, "progress": 0.0, "lease_until": None, "result_digest": None}
    connection.execute(sa.update(SHARDS).where(open_shards).values(state="pending", queued_at=None, **unclaimed))
    # as old as can be, so that the sweeper announces them at once
    connection.execute(
        sa.update(SHARDS).where(open_shards & (SHARDS.c.wave == first)).values(state="queued", queued_at=0.0)
    )
    connection.execute(sa.update(AUDITS).where(AUDITS.c.id == audit_id).values(state="queued"))


def _renamed(document: str, names: Mapping[str, str]) -> str:
    """A JSON document with other names of keys below its checks; the same text if it has none of them."""
    content = json.loads(document)
    changed = _with_names(content, names)
    return document if changed == content else json.dumps(changed, ensure_ascii=False, separators=(",", ":"))


def _with_names(value: Any, names: Mapping[str, str], *, in_checks: bool = False) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        return [_with_names(one, names, in_checks=in_checks) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        names.get(key, key) if in_checks else key: _with_names(one, names, in_checks=in_checks or key == "checks")
        for key, one in value.items()
    }
