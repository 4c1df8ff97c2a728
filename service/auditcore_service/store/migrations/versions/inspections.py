"""Add inspections of models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "inspections",
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("queued_at", sa.Double(), nullable=False),
        sa.Column("answer", sa.Text()),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.Text()),
        sa.Column("error_field", sa.String(1024)),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_inspections")),
    )
    op.create_index(op.f("ix_inspections_queued_at"), "inspections", ["queued_at"])


def downgrade() -> None:
    """Remove inspections."""
    op.drop_table("inspections")
