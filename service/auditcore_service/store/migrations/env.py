"""Run migrations on the connection of `Database.migrate`, inside its transaction."""

from __future__ import annotations

from alembic import context

from auditcore_service.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
