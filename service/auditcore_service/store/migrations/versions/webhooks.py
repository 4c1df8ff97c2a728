"""Add webhooks and their deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = ("webhooks", "webhook_deliveries")
SETTING = "current_setting('auditcore.tenant', true)"


def upgrade() -> None:
    """Create the tables; on PostgreSQL, a transaction touches only rows of its tenant."""
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("previous_secret", sa.String(64)),
        sa.Column("previous_until", sa.Double()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("failing_since", sa.Double()),
        sa.Column("paused_until", sa.Double()),
        sa.Column("disabled_at", sa.Double()),
        sa.Column("disabled_reason", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_tenant_webhooks_created_at"), "webhooks", ["tenant", "created_at"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("webhook_id", sa.String(36), nullable=False),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("audit_id", sa.String(36)),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("next_attempt_at", sa.Double()),
        sa.Column("attempted_at", sa.Double()),
        sa.Column("status", sa.Integer()),
        sa.Column("error", sa.Text()),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhooks.id"],
            name=op.f("fk_webhook_deliveries_webhook_id_webhooks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("webhook_id", "id", name=op.f("pk_webhook_deliveries")),
    )
    for columns in (("state", "next_attempt_at"), ("webhook_id", "created_at"), ("created_at",)):
        name = "_".join(f"webhook_deliveries_{column}" for column in columns)
        op.create_index(op.f(f"ix_{name}"), "webhook_deliveries", list(columns))
    if op.get_bind().dialect.name == "postgresql":
        for table in TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            # the service owns its tables, and an owner is exempt unless the table says otherwise
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenants ON {table} USING ({SETTING} = '*' OR tenant = {SETTING})")


def downgrade() -> None:
    """Drop the tables."""
    for table in reversed(TABLES):
        op.drop_table(table)
