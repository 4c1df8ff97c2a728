"""Count faults, losses and postponements of shards apart, and remember when audits were served."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

COUNTS = ("faults", "losses", "deaths", "postponements")


def upgrade() -> None:
    """Add the columns. Attempts of shards under way are not held against them: nobody knows what they were for."""
    op.add_column("audits", sa.Column("served_at", sa.Double()))
    op.create_index(op.f("ix_audits_tenant_audits_served_at"), "audits", ["tenant", "served_at"])
    for name in COUNTS:
        op.add_column("shards", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("shards", sa.Column("postponed_since", sa.Double()))
    op.add_column("shards", sa.Column("not_before", sa.Double()))
    op.add_column("shards", sa.Column("waiting_for", sa.String(16)))
    op.add_column("shards", sa.Column("left_out", sa.String(64)))
    op.add_column("shards", sa.Column("origin", sa.Integer()))
    op.create_index(op.f("ix_shards_audit_id_shards_state"), "shards", ["audit_id", "state"])


def downgrade() -> None:
    """Drop the columns. The version before gives up a shard after three attempts, whatever they were for."""
    op.execute("UPDATE shards SET attempt = 0 WHERE state = 'queued'")
    op.drop_index(op.f("ix_shards_audit_id_shards_state"), "shards")
    for name in ("origin", "left_out", "waiting_for", "not_before", "postponed_since", *reversed(COUNTS)):
        op.drop_column("shards", name)
    op.drop_index(op.f("ix_audits_tenant_audits_served_at"), "audits")
    op.drop_column("audits", "served_at")
