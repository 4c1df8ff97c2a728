"""Add signed registrations with the evidence of results, public keys, the event log, and replays of audits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables. Audits until now have no registration, and the log begins with what happens next."""
    op.add_column("audits", sa.Column("replay_of", sa.String(36)))
    op.create_table(
        "registrations",
        sa.Column("audit_id", sa.String(36), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["audits.id"], name=op.f("fk_registrations_audit_id_audits"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_registrations")),
    )
    op.create_table(
        "signing_keys",
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("first_used_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_signing_keys")),
    )
    op.create_table(
        "log_entries",
        sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.String(32), nullable=False),
        sa.Column("principal", sa.String(255)),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(71), nullable=False),
        sa.Column("hash", sa.String(71), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sequence", name=op.f("pk_log_entries")),
    )
    op.create_index(op.f("ix_log_entries_subject_log_entries_kind"), "log_entries", ["subject", "kind"])


def downgrade() -> None:
    """Drop everything that was signed and logged, and which audits are replays."""
    for table in ("log_entries", "signing_keys", "registrations"):
        op.drop_table(table)
    op.drop_column("audits", "replay_of")
