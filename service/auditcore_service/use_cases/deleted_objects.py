"""What to answer about objects that are not there: whether they were deleted, when and by whom, or never existed.

The event log remembers a deletion, so that there is no second record of it.
"""

from __future__ import annotations

from sqlalchemy import Connection

from auditcore.evidence.event_log import LogEntry
from auditcore_service.store.event_log import last_entry_about
from auditcore_service.use_cases.audit_ids import is_audit_id
from auditcore_service.use_cases.digests import is_digest
from auditcore_service.use_cases.refusals import Deleted, NotFound


def missing_audit(connection: Connection, audit_id: str) -> NotFound:
    """The refusal for an audit that is not there."""
    entry = last_entry_about(connection, audit_id, "delete") if is_audit_id(audit_id) else None
    if entry is None or entry.data.get("what") != "audit":
        return NotFound(f"there is no audit {audit_id[:64]!r}; take the id from the answer to POST /v1/audits")
    kept = f"; its evidence stays at /v1/audits/{audit_id}/evidence" if entry.data.get("evidence") else ""
    return Deleted(f"audit {audit_id} {_deletion(entry)}{kept}")


def missing_training(connection: Connection, training_id: str) -> NotFound:
    """The refusal for a training that is not there."""
    entry = last_entry_about(connection, training_id, "delete") if is_audit_id(training_id) else None
    if entry is None or entry.data.get("what") != "training":
        return NotFound(f"there is no training {training_id[:64]!r}; take the id from the answer to POST /v1/trainings")
    kept = f"; its evidence stays at /v1/trainings/{training_id}/evidence" if entry.data.get("evidence") else ""
    return Deleted(f"training {training_id} {_deletion(entry)}{kept}")


def missing_experiment(connection: Connection, experiment_id: str) -> NotFound:
    """The refusal for an experiment that is not there."""
    entry = last_entry_about(connection, experiment_id, "delete") if is_audit_id(experiment_id) else None
    if entry is None or entry.data.get("what") != "experiment":
        return NotFound(
            f"there is no experiment {experiment_id[:64]!r}; take the id from the answer to POST /v1/experiments"
        )
    return Deleted(f"experiment {experiment_id} {_deletion(entry)}")


def missing_batch(connection: Connection, digest: str) -> NotFound:
    """The refusal for an image batch that is not there."""
    return _missing(connection, digest, "image batch", "upload it with POST /v1/image-batches")


def missing_maps(connection: Connection, digest: str) -> NotFound:
    """The refusal for a file of maps that is not there."""
    return _missing(connection, digest, "file of maps", "upload it with POST /v1/maps")


def _missing(connection: Connection, digest: str, what: str, remedy: str) -> NotFound:
    entry = last_entry_about(connection, digest, "delete") if is_digest(digest) else None
    if entry is None:
        return NotFound(f"no {what} {digest[:71]} is stored; {remedy}")
    return Deleted(f"the {what} {digest} {_deletion(entry)}; {remedy} again")


def _deletion(entry: LogEntry) -> str:
    """When something was deleted, and by whom."""
    if entry.data.get("reason") == "retention":
        return f"was deleted at {entry.time}, at the end of the time for which it is kept"
    return f"was deleted at {entry.time}" + ("" if entry.principal is None else f" by {entry.principal}")
