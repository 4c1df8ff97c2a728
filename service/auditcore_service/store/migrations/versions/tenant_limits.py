"""Store the limits of tenants, and the passes that they have submitted."""

from __future__ import annotations

import time
from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SETTING = "current_setting('auditcore.tenant', true)"

WALLS: Mapping[str, str] = {
    "tenants": f"{SETTING} = '*' OR name = {SETTING}",
    "daily_passes": f"{SETTING} = '*' OR tenant = {SETTING}",
}
"""Table -> which of its rows a transaction may touch."""


def upgrade() -> None:
    """Add both tables; the tenant `default` exists from the start."""
    tenants = op.create_table(
        "tenants",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("running_audits", sa.BigInteger),
        sa.Column("passes_per_day", sa.BigInteger),
        sa.Column("stored_bytes", sa.BigInteger),
        sa.Column("retention_days", sa.BigInteger),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tenants")),
    )
    op.create_table(
        "daily_passes",
        sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("passes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day", name=op.f("pk_daily_passes")),
    )
    op.bulk_insert(tenants, [{"name": "default", "created_at": time.time()}])
    if op.get_bind().dialect.name == "postgresql":
        for table, rows in WALLS.items():
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenants ON {table} USING ({rows})")


def downgrade() -> None:
    """Remove both tables, and their policies with them."""
    for table in WALLS:
        op.drop_table(table)
