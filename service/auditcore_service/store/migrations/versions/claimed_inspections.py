"""Workers that ask the database for inspections mark the one that they take."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; inspections until now were not claimed."""
    op.add_column("inspections", sa.Column("claimed_at", sa.Double()))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("inspections", "claimed_at")
