"""Add stored policies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "policies",
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_policies")),
        sa.UniqueConstraint("tenant", "name", "version", name=op.f("uq_policies_tenant_name_version")),
    )
    op.create_index(op.f("ix_policies_created_at_policies_digest"), "policies", ["created_at", "digest"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("policies")
