"""Collects blobs from the command line."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from auditcore_service.cli.outcome import CommandError
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.use_cases.collection import Amount, Collected, Collection


def collect(settings: Settings, *, dry_run: bool) -> Collected:
    """Collect the blobs of every tenant once.

    Raises:
        CommandError: Database or blobs cannot be reached.
    """
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        # a new database references nothing, so that every blob would be collected
        message = f"there is no database {url.database}; check AUDIT_DATABASE_URL or --data"
        raise CommandError(message)
    database = Database(settings.database)
    try:
        database.migrate()
        return Collection(settings, database=database, blobs=BlobStore(settings.blobs)).collect(dry_run=dry_run)
    except SQLAlchemyError as error:
        message = f"the database does not answer ({str(error).splitlines()[0]}); check AUDIT_DATABASE_URL"
        raise CommandError(message) from error
    except OSError as error:
        message = f"the blobs cannot be reached ({error}); check AUDIT_BLOB_URL"
        raise CommandError(message) from error
    finally:
        database.close()


def show_collected(found: Collected, settings: Settings, console: Console, *, dry_run: bool) -> None:
    """Print what was done, or would be."""
    hours = settings.collection_grace_s / 3600
    would = "would be " if dry_run else ""
    lines = (
        f"{would}deleted: {_words(found.deleted)}, set aside before",
        f"{would}set aside: {_words(found.set_aside)}, which nothing references; deleted after {hours:g} hours",
        f"{would}restored: {_words(found.restored)}, set aside before and referenced by now",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False)


def _words(amount: Amount) -> str:
    return f"{amount.blobs} file{'' if amount.blobs == 1 else 's'} ({amount.size_bytes / 1e6:.1f} MB)"
