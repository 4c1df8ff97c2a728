"""Add the position of a shard's model in its audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; every existing audit has one model, at position 0."""
    op.add_column("shards", sa.Column("model", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop the column; audits of several models can no longer be assembled afterwards."""
    op.drop_column("shards", "model")
