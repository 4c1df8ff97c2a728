"""The kept files of an experiment, as a worker keeps them: rows of a table, and blobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from auditcore.errors import AuditCancelled
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.database_time import database_time
from auditcore_service.store.experiment_files import ExperimentFile, find_file, forget_file, keep_file
from auditcore_service.store.records import Shard
from auditcore_service.store.shards import is_owned, note_progress


@final
class StageFiles:
    """Files of an experiment while one stage of it is done; a `KeptFiles`.

    Only a worker that still owns the shard changes anything, so that one which was silent for too long overwrites
    nothing of the worker that has taken its place.

    Attributes:
        has_new: Whether this worker has kept something new.
    """

    def __init__(
        self, shard: Shard, stage: str, *, database: Database, blobs: BlobStore, store: Callable[[bytes], str]
    ) -> None:
        """Remember what is meant; nothing is read yet.

        Args:
            shard: The shard of the stage, as this worker has claimed it.
            stage: Name of the stage.
            database: Holds the names.
            blobs: Those of the tenant.
            store: Stores bytes among them and returns their digest; may try again where the store fails for a moment.
        """
        self.has_new = False
        self._shard = shard
        self._stage = stage
        self._database = database
        self._blobs = blobs
        self._store = store

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it is not there."""
        found = self._find(name)
        return None if found is None else self._blobs.get(found.digest, field=name)

    def keep(self, name: str, data: bytes) -> None:
        """Keep a file; a new one counts as progress of the shard.

        Raises:
            AuditCancelled: The shard is not this worker's any more, or is not wanted.
        """
        # the blob first: without a row nothing names it, and it is collected
        digest = self._store(data)
        with self._database.writing() as connection:
            now = database_time(connection)
            if not is_owned(connection, self._shard.key, attempt=self._shard.attempt):
                raise AuditCancelled
            file = ExperimentFile(name, self._stage, digest, len(data), now)
            if keep_file(connection, self._shard.key.audit_id, file):
                note_progress(connection, self._shard.key)
                self.has_new = True

    def forget(self, name: str) -> None:
        """Remove a file; nothing happens if it is not there.

        Raises:
            AuditCancelled: The shard is not this worker's any more, or is not wanted.
        """
        with self._database.writing() as connection:
            if not is_owned(connection, self._shard.key, attempt=self._shard.attempt):
                raise AuditCancelled
            forget_file(connection, self._shard.key.audit_id, name)

    def uri(self, name: str) -> str:
        """The file as a `blob:` URI.

        Raises:
            KeyError: It is not there.
        """
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        return f"blob:{found.digest}"

    def _find(self, name: str) -> ExperimentFile | None:
        with self._database.reading() as connection:
            return find_file(connection, self._shard.key.audit_id, name)
