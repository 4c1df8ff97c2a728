"""Give every row a tenant, and on PostgreSQL let the database itself keep tenants apart."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEYED = {"image_batches": "digest", "idempotency_keys": "key", "policies": "digest"}
"""Table -> column that was its primary key; two tenants may now store the same."""

SETTING = "current_setting('auditcore.tenant', true)"
OWN = f"{SETTING} = '*' OR tenant = {SETTING}"
OF_AUDIT = f"{SETTING} = '*' OR EXISTS (SELECT 1 FROM audits WHERE audits.id = audit_id)"  # noqa: S608 - a constant

WALLS: Mapping[str, str] = {
    "audits": OWN,
    "image_batches": OWN,
    "idempotency_keys": OWN,
    "inspections": OWN,
    "policies": OWN,
    "registrations": OWN,
    "log_entries": OWN,
    "shards": OF_AUDIT,
    "events": OF_AUDIT,
    "frozen_images": OF_AUDIT,
}
"""Table -> which of its rows a transaction may touch. A transaction that does not say whose it is touches none."""


def upgrade() -> None:
    """Everything stored before belongs to the tenant `default`."""
    for table in ("audits", "inspections", "image_batches", "idempotency_keys"):
        op.add_column(table, sa.Column("tenant", sa.String(64), nullable=False, server_default="default"))
    op.create_index(op.f("ix_audits_tenant_audits_created_at"), "audits", ["tenant", "created_at"])
    for table, column in KEYED.items():
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(op.f(f"pk_{table}"), type_="primary")
            batch.create_primary_key(op.f(f"pk_{table}"), ["tenant", column])
    with op.batch_alter_table("log_entries") as batch:
        # a digest has 71 characters
        batch.alter_column("subject", existing_type=sa.String(64), type_=sa.String(255), existing_nullable=False)
    if op.get_bind().dialect.name == "postgresql":
        for table, rows in WALLS.items():
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            # the service owns its tables, and an owner is exempt unless the table says otherwise
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenants ON {table} USING ({rows})")


def downgrade() -> None:
    """Keep only what belongs to the tenant `default`: the version before would show all rows to everybody."""
    if op.get_bind().dialect.name == "postgresql":
        for table in WALLS:
            op.execute(f"DROP POLICY tenants ON {table}")
            op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    for table in ("registrations", "audits", "image_batches", "idempotency_keys", "inspections", "policies"):
        op.execute(f"DELETE FROM {table} WHERE tenant <> 'default'")  # noqa: S608 - names from above
    for table, column in KEYED.items():
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(op.f(f"pk_{table}"), type_="primary")
            batch.create_primary_key(op.f(f"pk_{table}"), [column])
            if table != "policies":
                batch.drop_column("tenant")
    # log entries stay, and their column stays wide: a chain without its longer subjects would be broken
    op.drop_index(op.f("ix_audits_tenant_audits_created_at"), "audits")
    for table in ("audits", "inspections"):
        op.drop_column(table, "tenant")
