"""What keeps a process of the service from starting, as one line instead of a traceback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError

from auditcore_service.cli.outcome import CommandError
from auditcore_service.settings import Settings
from auditcore_service.startup import CannotStart
from auditcore_service.store.database import Database, DatabaseIsNewer

log = structlog.get_logger(__name__)


@contextmanager
def starting(settings: Settings) -> Iterator[None]:
    """Run a process of the service.

    Raises:
        CommandError: The database does not answer, or the process cannot start.
    """
    check_database(settings)
    try:
        yield
    except CannotStart as error:
        raise CommandError(str(error)) from error


def check_folder(settings: Settings) -> None:
    """Make the folder of the embedded service.

    Raises:
        CommandError: It cannot be made, or nothing can be written there.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"the data folder {folder} cannot be made ({error.strerror}); choose another with --data"
        raise CommandError(message) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        message = f"nothing can be written in the data folder {folder}; choose another with --data"
        raise CommandError(message)


def check_queue(settings: Settings) -> None:
    """Refuse a process that no message could reach.

    Raises:
        CommandError: No queue is set.
    """
    if settings.queue == "database":
        return
    try:
        _ = settings.redis
    except ValueError as error:
        raise CommandError(str(error)) from error


def check_database(settings: Settings) -> None:
    """Refuse to go on without a database that this version knows, and warn if others may read its files.

    Raises:
        CommandError: It does not answer, or a newer version has migrated it.
    """
    try:
        database = Database(settings.database)
        try:
            database.check_version()
            for path in database.readable_by_others():
                log.warning("files_readable_by_others", path=str(path), fix=f"chmod -R go= {path}")
        finally:
            database.close()
    except DatabaseIsNewer as error:
        raise CommandError(str(error)) from error
    except (SQLAlchemyError, OSError) as error:
        # the first line says what happened; the others are advice of the driver and a link
        reason = str(error).splitlines()[0]
        message = f"the database does not answer ({reason}); check AUDIT_DATABASE_URL"
        raise CommandError(message) from error
