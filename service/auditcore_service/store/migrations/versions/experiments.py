"""Keep the files of experiments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SETTING = "current_setting('auditcore.tenant', true)"
OF_AUDIT = f"{SETTING} = '*' OR EXISTS (SELECT 1 FROM audits WHERE audits.id = audit_id)"  # noqa: S608 - a constant


def upgrade() -> None:
    """Add the table; on PostgreSQL, a transaction touches only files of audits of its tenant."""
    op.create_table(
        "experiment_files",
        sa.Column("audit_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("stage", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["audits.id"], name=op.f("fk_experiment_files_audit_id_audits"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("audit_id", "name", name=op.f("pk_experiment_files")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE experiment_files ENABLE ROW LEVEL SECURITY")
        # the service owns its tables, and an owner is exempt unless the table says otherwise
        op.execute("ALTER TABLE experiment_files FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenants ON experiment_files USING ({OF_AUDIT})")


def downgrade() -> None:
    """Delete experiments, which the version before cannot read, with their files and weights."""
    op.execute("DELETE FROM audits WHERE kind = 'experiment'")
    op.drop_table("experiment_files")
