"""Databases at earlier versions of their schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext

from auditcore_service import store
from auditcore_service.store.database import Database


def migrate_to(database: Database, revision: str) -> None:
    """Go to one revision, up or down, as `Database.migrate` goes to the last."""
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        current = MigrationContext.configure(connection).get_current_revision()
        (command.downgrade if current and current > revision else command.upgrade)(config, revision)
