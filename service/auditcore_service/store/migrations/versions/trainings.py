"""Tell trainings from audits, and keep the weights that they make."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. What is stored already is an audit, and so is what a gateway of the version before stores."""
    op.add_column("audits", sa.Column("kind", sa.String(16), nullable=False, server_default="audit"))
    op.add_column("audits", sa.Column("weights_digest", sa.String(71)))


def downgrade() -> None:
    """Delete trainings, which the version before would take for audits that it cannot read; their weights go too."""
    op.execute("DELETE FROM audits WHERE kind = 'training'")
    op.drop_column("audits", "weights_digest")
    op.drop_column("audits", "kind")
