"""Which blobs the database references. Every other blob may be collected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Select, select, union

from auditcore_service.store.tables import (
    AUDIT_INPUTS,
    AUDITS,
    EXPERIMENT_FILES,
    FROZEN_IMAGES,
    IMAGE_BATCHES,
    INSPECTIONS,
    MAP_FILES,
    PICTURES,
    SHARDS,
)
from auditcore_service.store.tenancy import owned
from auditcore_service.store.transitions import TERMINAL

_ANY = re.compile(r"sha256:([0-9a-f]{64})")
_URI = re.compile(r"blob:sha256:([0-9a-f]{64})")

_AT_ONCE = {"yield_per": 200}
"""Rows in memory at once: a manifest may have megabytes."""


def referenced_blobs(connection: Connection) -> frozenset[bytes]:
    """The sha256 of every blob of the transaction's tenant that something references, 32 bytes each.

    Images, masks and maps count while their batch or file is stored, and what an audit has made counts while the audit
    is; so do the weights of a training, its newest checkpoint until it ends, and the files of an experiment. The
    baseline of an audit, and the failed report of a remedy, count also when the audit that made them is deleted. Of an
    audit that has not ended, every digest in its request and plan counts.
    """
    return frozenset(bytes.fromhex(one) for one in _digests(connection))


def _digests(connection: Connection) -> Iterator[str]:
    manifests = select(IMAGE_BATCHES.c.manifest).where(owned(connection, IMAGE_BATCHES))
    for row in connection.execute(manifests, execution_options=_AT_ONCE):
        yield from _ANY.findall(row.manifest)
    audits = select(AUDITS.c.state, AUDITS.c.request, AUDITS.c.plan).where(owned(connection, AUDITS))
    for row in connection.execute(audits, execution_options=_AT_ONCE):
        wanted = _URI if row.state in TERMINAL else _ANY
        yield from wanted.findall(row.request)
        yield from wanted.findall(row.plan)
    inspections = select(INSPECTIONS.c.reference).where(owned(connection, INSPECTIONS))
    for row in connection.execute(inspections):
        yield from _URI.findall(row.reference)
    for row in connection.execute(_columns(connection), execution_options=_AT_ONCE):
        yield from _ANY.findall(row.digest)


def _columns(connection: Connection) -> Any:  # noqa: ANN401 - SQLAlchemy's type of a union depends on its columns
    """Every digest of a blob that has a column of its own."""

    def of_audits(column: Any) -> Select[tuple[str]]:  # noqa: ANN401 - a column of any of the tables below
        table = column.table
        return (
            select(column.label("digest"))
            .join(AUDITS, AUDITS.c.id == table.c.audit_id)
            .where(owned(connection, AUDITS), column.is_not(None))
        )

    return union(
        of_audits(SHARDS.c.result_digest),
        of_audits(FROZEN_IMAGES.c.digest),
        of_audits(PICTURES.c.digest),
        of_audits(EXPERIMENT_FILES.c.digest),
        select(AUDITS.c.report_digest.label("digest")).where(
            owned(connection, AUDITS), AUDITS.c.report_digest.is_not(None)
        ),
        select(AUDITS.c.weights_digest.label("digest")).where(
            owned(connection, AUDITS), AUDITS.c.weights_digest.is_not(None)
        ),
        select(AUDIT_INPUTS.c.digest).where(owned(connection, AUDIT_INPUTS), AUDIT_INPUTS.c.kind == "baseline"),
        select(MAP_FILES.c.digest).where(owned(connection, MAP_FILES)),
    )
