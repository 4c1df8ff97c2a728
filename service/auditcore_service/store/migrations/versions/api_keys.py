"""Add the table of API keys; on PostgreSQL with the row-level security of the other tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SETTING = "current_setting('auditcore.tenant', true)"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(8), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("secret_digest", sa.String(71), nullable=False),
        sa.Column("previous_digest", sa.String(71)),
        sa.Column("previous_until", sa.Double()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(255)),
        sa.Column("expires_at", sa.Double()),
        sa.Column("rotated_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.Column("last_used_at", sa.Double()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_api_keys_tenant_name")),
    )
    op.create_index(op.f("ix_api_keys_created_at_api_keys_id"), "api_keys", ["created_at", "id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY")
        # the service owns its tables, and an owner is exempt unless the table says otherwise
        op.execute("ALTER TABLE api_keys FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenants ON api_keys USING ({SETTING} = '*' OR tenant = {SETTING})")


def downgrade() -> None:
    """Drop the table, and its policy with it."""
    op.drop_table("api_keys")
