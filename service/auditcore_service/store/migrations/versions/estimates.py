"""Add estimates of audits and observed speeds of workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, which is empty for existing audits, and the table."""
    op.add_column("audits", sa.Column("estimate", sa.Text()))
    op.create_table(
        "speeds",
        sa.Column("model", sa.String(71), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("plan", sa.String(71), nullable=False),
        sa.Column("wave", sa.String(16), nullable=False),
        sa.Column("passes", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("model", "device", "plan", "wave", name=op.f("pk_speeds")),
    )


def downgrade() -> None:
    """Remove estimates and speeds."""
    op.drop_table("speeds")
    op.drop_column("audits", "estimate")
