"""The files that an experiment keeps between its stages: names in a table, bytes in the blob store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

from sqlalchemy import Connection, Row, delete, insert, select, update

from auditcore_service.store.tables import AUDITS, EXPERIMENT_FILES
from auditcore_service.store.tenancy import owned

CHECKPOINTS: Final = "checkpoints/"
"""How names of files begin that only an experiment which goes on needs."""


@final
@dataclass(frozen=True)
class ExperimentFile:
    """A file.

    Attributes:
        name: Its name.
        stage: Name of the stage that has kept it.
        digest: Digest of its bytes.
        size_bytes: Their number.
        created_at: When it was kept, seconds since 1970.
    """

    name: str
    stage: str
    digest: str
    size_bytes: int
    created_at: float


def keep_file(connection: Connection, audit_id: str, file: ExperimentFile) -> bool:
    """Keep a file; an earlier one of the same name is replaced. The caller must hold the lock of the experiment.

    Returns:
        Whether the file is another one than before.
    """
    before = _find(connection, audit_id, file.name)
    values = {
        "stage": file.stage,
        "digest": file.digest,
        "size_bytes": file.size_bytes,
        "created_at": file.created_at,
    }
    if before is None:
        connection.execute(insert(EXPERIMENT_FILES).values(audit_id=audit_id, name=file.name, **values))
        return True
    connection.execute(
        update(EXPERIMENT_FILES)
        .where(EXPERIMENT_FILES.c.audit_id == audit_id, EXPERIMENT_FILES.c.name == file.name)
        .values(**values)
    )
    return bool(before.digest != file.digest)


def forget_file(connection: Connection, audit_id: str, name: str) -> None:
    """Remove a file, if it is there; its bytes are collected. The caller must hold the lock of the experiment."""
    connection.execute(
        delete(EXPERIMENT_FILES).where(EXPERIMENT_FILES.c.audit_id == audit_id, EXPERIMENT_FILES.c.name == name)
    )


def forget_checkpoints(connection: Connection, audit_id: str) -> None:
    """Remove what only an experiment that goes on needs. The caller must hold the lock of the experiment."""
    connection.execute(
        delete(EXPERIMENT_FILES).where(
            EXPERIMENT_FILES.c.audit_id == audit_id, EXPERIMENT_FILES.c.name.startswith(CHECKPOINTS, autoescape=True)
        )
    )


def find_file(connection: Connection, audit_id: str, name: str) -> ExperimentFile | None:
    """A file of an experiment of the tenant; None if there is none of this name."""
    row = _find(connection, audit_id, name)
    return None if row is None else _file(row)


def list_files(connection: Connection, audit_id: str) -> tuple[ExperimentFile, ...]:
    """All files of an experiment of the tenant, by name."""
    rows = connection.execute(
        select(EXPERIMENT_FILES)
        .join(AUDITS, AUDITS.c.id == EXPERIMENT_FILES.c.audit_id)
        .where(EXPERIMENT_FILES.c.audit_id == audit_id, owned(connection, AUDITS))
    )
    # databases sort text differently
    return tuple(sorted(map(_file, rows), key=lambda file: file.name))


def _find(connection: Connection, audit_id: str, name: str) -> Row[Any] | None:
    return connection.execute(
        select(EXPERIMENT_FILES)
        .join(AUDITS, AUDITS.c.id == EXPERIMENT_FILES.c.audit_id)
        .where(EXPERIMENT_FILES.c.audit_id == audit_id, EXPERIMENT_FILES.c.name == name, owned(connection, AUDITS))
    ).one_or_none()


def _file(row: Row[Any]) -> ExperimentFile:
    return ExperimentFile(row.name, row.stage, row.digest, row.size_bytes, row.created_at)
