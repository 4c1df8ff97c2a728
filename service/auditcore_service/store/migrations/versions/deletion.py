"""Let evidence outlive its audit, and list what audits use, by which they are found and files are deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SETTING = "current_setting('auditcore.tenant', true)"
OWN = f"{SETTING} = '*' OR tenant = {SETTING}"
OF_AUDIT = f"{SETTING} = '*' OR EXISTS (SELECT 1 FROM audits WHERE audits.id = audit_id)"  # noqa: S608 - a constant

WALLS = {"audit_tags": OWN, "audit_inputs": OWN, "map_files": OWN, "pictures": OF_AUDIT}
"""Table -> which of its rows a transaction may touch, as in the migration that brought tenants."""

DEMO_WEIGHTS = "sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Digest of the weights of the model of kind `demo`, which a request does not spell out."""

AUDITS = sa.table("audits", *(sa.column(name) for name in ("id", "tenant", "request", "plan", "created_at")))
INPUTS = sa.table("audit_inputs", *(sa.column(name) for name in ("audit_id", "tenant", "kind", "digest")))
MAP_FILES = sa.table("map_files", *(sa.column(name) for name in ("tenant", "digest", "created_at")))


def upgrade() -> None:
    """List the models, batches, maps and baselines that stored requests name. Older audits have no name and no tags."""
    for table in ("image_batches", "audits"):
        column = sa.Column("used_at", sa.Double()) if table == "image_batches" else sa.Column("name", sa.String(200))
        op.add_column(table, column)
    op.add_column("audits", sa.Column("contents_listed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(op.f("ix_audits_tenant_audits_name"), "audits", ["tenant", "name"])
    _create_tables()
    with op.batch_alter_table("registrations") as batch:
        batch.drop_constraint(op.f("fk_registrations_audit_id_audits"), type_="foreignkey")
    _fill()
    if op.get_bind().dialect.name == "postgresql":
        for table, rows in WALLS.items():
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenants ON {table} USING ({rows})")


def downgrade() -> None:
    """Drop the evidence of deleted audits as well: the version before ties evidence to its audit."""
    op.execute("DELETE FROM registrations WHERE audit_id NOT IN (SELECT id FROM audits)")
    with op.batch_alter_table("registrations") as batch:
        batch.create_foreign_key(
            op.f("fk_registrations_audit_id_audits"), "audits", ["audit_id"], ["id"], ondelete="CASCADE"
        )
    for table in WALLS:
        op.drop_table(table)
    op.drop_index(op.f("ix_audits_tenant_audits_name"), "audits")
    op.drop_column("audits", "contents_listed")
    op.drop_column("audits", "name")
    op.drop_column("image_batches", "used_at")


def _create_tables() -> None:
    op.create_table(
        "map_files",
        sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("size_bytes", sa.BigInteger()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double()),
        sa.PrimaryKeyConstraint("tenant", "digest", name=op.f("pk_map_files")),
    )
    op.create_table(
        "audit_tags",
        sa.Column("audit_id", sa.String(36), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
        sa.Column("key", sa.String(63), nullable=False),
        sa.Column("value", sa.String(200), nullable=False),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["audits.id"], name=op.f("fk_audit_tags_audit_id_audits"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("audit_id", "key", name=op.f("pk_audit_tags")),
    )
    op.create_index(
        op.f("ix_audit_tags_tenant_audit_tags_key_audit_tags_value"), "audit_tags", ["tenant", "key", "value"]
    )
    op.create_table(
        "audit_inputs",
        sa.Column("audit_id", sa.String(36), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["audits.id"], name=op.f("fk_audit_inputs_audit_id_audits"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("audit_id", "kind", "digest", name=op.f("pk_audit_inputs")),
    )
    op.create_index(
        op.f("ix_audit_inputs_tenant_audit_inputs_kind_audit_inputs_digest"),
        "audit_inputs",
        ["tenant", "kind", "digest"],
    )
    op.create_table(
        "pictures",
        sa.Column("audit_id", sa.String(36), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["audits.id"], name=op.f("fk_pictures_audit_id_audits"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("audit_id", "digest", name=op.f("pk_pictures")),
    )


def _fill() -> None:
    connection = op.get_bind()
    maps: dict[tuple[str, str], float] = {}
    for row in connection.execute(sa.select(AUDITS)).all():
        found = set(_inputs(json.loads(row.request), json.loads(row.plan)))
        for kind, digest in sorted(found):
            values = {"audit_id": row.id, "tenant": row.tenant, "kind": kind, "digest": digest}
            connection.execute(sa.insert(INPUTS).values(values))
            if kind == "maps":
                key = (row.tenant, digest)
                maps[key] = min(row.created_at, maps.get(key, row.created_at))
    for (tenant, digest), created_at in maps.items():
        connection.execute(sa.insert(MAP_FILES).values(tenant=tenant, digest=digest, created_at=created_at))


def _inputs(request: dict[str, Any], plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and digest of everything that an audit names by its digest."""
    models = [request.get("model"), *(entry.get("model") for entry in request.get("models") or ())]
    for model in filter(None, models):
        if model.get("kind") == "demo":
            yield "model", DEMO_WEIGHTS
        for holder in (model, model.get("weights")):
            if isinstance(holder, dict):
                uri = str(holder.get("uri"))
                digest = holder.get("sha256") or (uri.startswith("blob:sha256:") and uri.removeprefix("blob:"))
                if digest:
                    yield "model", digest
    images = request.get("images") or {}
    if images.get("kind") == "batch":
        yield "batch", images["digest"]
    for explainer in plan.get("explainers") or ():
        if explainer.get("kind") == "precomputed":
            yield "maps", explainer["maps"]
    baseline = (request.get("baseline") or {}).get("report")
    if baseline:
        yield "baseline", baseline
