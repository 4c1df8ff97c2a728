"""Find the training that has made some weights, for the registration of an audit of them."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

INDEX = "ix_audits_tenant_audits_weights_digest"


def upgrade() -> None:
    """Add the index."""
    op.create_index(op.f(INDEX), "audits", ["tenant", "weights_digest"])


def downgrade() -> None:
    """Drop the index."""
    op.drop_index(op.f(INDEX), "audits")
