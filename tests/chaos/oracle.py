"""What has to hold after every fault: nothing stuck, lost or done twice, the same scores, nothing left behind."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, final

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import SQLAlchemyError

from auditcore.evidence.event_log import verify_chain
from auditcore_service.principals import DEFAULT_TENANT
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import read_log
from auditcore_service.store.references import referenced_blobs
from auditcore_service.store.transitions import TERMINAL
from auditcore_service.use_cases.collection import Collection
from chaos.deployment import Deployment
from chaos.small_audits import comparable

DELIVERY_S = 60.0
"""Longest wait for the last webhook; the first pauses between attempts are seconds."""


@final
@dataclass
class Observed:
    """What a scenario came to.

    Attributes:
        audits: Number of audits that were accepted.
        shards: Number of their shards.
        attempts: Starts of their shards, as their rows count them.
        repeated: Starts beyond the first of each shard.
        longest_wait_s: Longest time from the submit to the first start of a shard.
        longest_audit_s: Longest time from the submit to the end.
        findings: What does not hold; empty if everything does.
    """

    audits: int = 0
    shards: int = 0
    attempts: int = 0
    repeated: int = 0
    longest_wait_s: float = 0.0
    longest_audit_s: float = 0.0
    findings: list[str] = field(default_factory=list)


def wait_for_end(database: Database, audits: Sequence[str], *, seconds: float) -> dict[str, str]:
    """States of audits, once all have ended or the time is over."""
    deadline = time.monotonic() + seconds
    states: dict[str, str] = {}
    while True:
        try:
            with database.reading() as connection:
                states = states_of(connection, audits)
        except SQLAlchemyError:
            if time.monotonic() > deadline:
                raise
        if all(states.get(one) in {*TERMINAL, None} for one in audits) and states:
            return states
        if time.monotonic() > deadline:
            return states
        time.sleep(0.2)


def states_of(connection: Connection, audits: Sequence[str]) -> dict[str, str]:
    """Audit -> its state; those that are not stored are missing."""
    rows = connection.execute(_among("SELECT id, state FROM audits WHERE id IN :ids"), {"ids": list(audits)})
    return {row.id: row.state for row in rows}


def judge(
    deployment: Deployment,
    accepted: Mapping[str, str],
    undisturbed: Mapping[str, Mapping[str, Any]],
    *,
    seconds: float,
    failing: Mapping[str, str | None] | None = None,
) -> Observed:
    """Wait for audits to end, and check everything about them.

    Args:
        deployment: Where they run; its faults are over.
        accepted: Every audit that a gateway has answered with 202 -> its kind.
        undisturbed: Kind -> the comparable report of an undisturbed run. Kinds that are missing are not compared.
        seconds: Longest wait for their end.
        failing: Audits that have to fail -> the code of their failure; None for any code.
    """
    observed = Observed(audits=len(accepted))
    found = observed.findings
    failing = failing or {}
    ids = list(accepted)
    with closing(Database(deployment.database_url)) as database:
        states = wait_for_end(database, ids, seconds=seconds)
        for one in ids:
            expected = "failed" if one in failing else "succeeded"
            if states.get(one) != expected:
                with database.reading() as connection:
                    found.append(f"{_name(accepted, one)} is {states.get(one, 'lost')}{_why(connection, one)}")
        with database.reading() as connection:
            found += _shards(connection, accepted, states, observed)
            found += _codes(connection, accepted, failing)
            found += _events(connection, accepted, states)
        with database.reading(DEFAULT_TENANT) as connection:
            found += _log(connection, accepted, states)
        found += _webhooks(database, deployment, accepted, states)
    found += _reports(deployment, accepted, states, undisturbed)
    return observed


def left_behind(deployment: Deployment) -> list[str]:
    """What the collector leaves, long after everything has ended, that nothing references; and damaged temporary files.

    The deployment may have stopped; its database has to answer.
    """
    settings = Settings.model_validate({"database_url": deployment.database_url, "blob_url": deployment.blobs_url})
    store = BlobStore(settings.blobs)
    found = []
    with closing(Database(deployment.database_url)) as database:
        for days in (2, 4):
            later = time.time() + days * 86400
            Collection(settings, database=database, blobs=store, clock=lambda later=later: later).collect()  # type: ignore[misc]
        with database.reading(DEFAULT_TENANT) as connection:
            referenced = referenced_blobs(connection)
    stored = {blob.digest for blob in store.list_stored()}
    names = {f"sha256:{digest.hex()}" for digest in referenced}
    found += [f"{len(stored - names)} blobs are kept and nothing references them"] if stored - names else []
    parts = [path.name for path in (deployment.folder / "blobs").rglob("*.part")]
    found += [f"{len(parts)} parts of blobs are kept"] if parts else []
    return found


def temporary_files(deployment: Deployment) -> list[str]:
    """Files below the folder for temporary files, without folders that are empty and without sockets."""
    found = [path for path in deployment.temporary.rglob("*") if path.is_file()]
    return [str(path.relative_to(deployment.temporary)) for path in found]


def _among(statement: str) -> Any:
    return text(statement).bindparams(bindparam("ids", expanding=True))


def _name(accepted: Mapping[str, str], audit_id: str) -> str:
    return f"audit {audit_id[:8]} ({accepted[audit_id]})"


def _why(connection: Connection, audit_id: str) -> str:
    """What is known of an audit that has not ended as it should."""
    row = connection.execute(
        text("SELECT error_code, error_message FROM audits WHERE id = :id"), {"id": audit_id}
    ).one_or_none()
    shards = connection.execute(
        text("SELECT kind, state, attempt, error FROM shards WHERE audit_id = :id AND state <> 'done'"),
        {"id": audit_id},
    ).all()
    said = "" if row is None or row.error_code is None else f" with {row.error_code}: {row.error_message[:120]}"
    return said + "".join(
        f"; a {one.kind} shard is {one.state} after {one.attempt} attempts ({str(one.error)[:100]})"
        for one in shards[:3]
    )


def _shards(
    connection: Connection, accepted: Mapping[str, str], states: Mapping[str, str], observed: Observed
) -> Iterator[str]:
    rows = connection.execute(
        _among(
            "SELECT audit_id, wave, kind, state, attempt, start, stop, result_digest FROM shards "
            "WHERE audit_id IN :ids ORDER BY audit_id, wave, start"
        ),
        {"ids": list(accepted)},
    ).all()
    audits = {
        row.id: row
        for row in connection.execute(
            _among("SELECT id, created_at, started_at, finished_at, report_digest FROM audits WHERE id IN :ids"),
            {"ids": list(accepted)},
        )
    }
    observed.shards = len(rows)
    observed.attempts = sum(row.attempt for row in rows)
    observed.repeated = sum(max(0, row.attempt - 1) for row in rows)
    for row in audits.values():
        observed.longest_wait_s = max(observed.longest_wait_s, (row.started_at or time.time()) - row.created_at)
        observed.longest_audit_s = max(observed.longest_audit_s, (row.finished_at or time.time()) - row.created_at)
    for one, state in states.items():
        if state != "succeeded":
            continue
        own = [row for row in rows if row.audit_id == one]
        if {row.state for row in own} - {"done", "skipped"}:
            yield f"{_name(accepted, one)} has succeeded, and a shard has not"
        last = [row.result_digest for row in own if row.kind == "assemble" and row.state == "done"]
        if last != [audits[one].report_digest]:
            yield f"{_name(accepted, one)} has {len(last)} assembled results beside its report"
        for wave in {row.wave for row in own if row.kind != "assemble"}:
            ranges = [(row.start, row.stop) for row in own if row.wave == wave and row.state == "done"]
            if any(before[1] != after[0] for before, after in itertools.pairwise(ranges)):
                yield f"{_name(accepted, one)} computed images twice or not at all: {ranges}"


def _codes(connection: Connection, accepted: Mapping[str, str], failing: Mapping[str, str | None]) -> Iterator[str]:
    for one, code in failing.items():
        found = connection.execute(text("SELECT error_code FROM audits WHERE id = :id"), {"id": one}).scalar()
        if code is not None and found != code:
            yield f"{_name(accepted, one)} has the code {found} instead of {code}"


def _events(connection: Connection, accepted: Mapping[str, str], states: Mapping[str, str]) -> Iterator[str]:
    rows = connection.execute(
        _among("SELECT audit_id, kind, data FROM events WHERE audit_id IN :ids ORDER BY id"), {"ids": list(accepted)}
    ).all()
    for one, state in states.items():
        own = [(row.kind, json.loads(row.data)["state"]) for row in rows if row.audit_id == one]
        ends = [to for kind, to in own if kind == "state" and to in TERMINAL]
        if state in TERMINAL and (ends != [state] or own[-1][1] != state):
            yield f"{_name(accepted, one)} has the events {own[-4:]}"


def _log(connection: Connection, accepted: Mapping[str, str], states: Mapping[str, str]) -> Iterator[str]:
    entries = []
    while page := read_log(connection, after=entries[-1].sequence if entries else 0, limit=1000):
        entries += page
    yield from (f"the log does not hold: {finding}" for finding in verify_chain(entries))
    submitted = Counter(entry.subject for entry in entries if entry.kind == "submit")
    ended = Counter(entry.subject for entry in entries if entry.kind == "state" and entry.data.get("state") in TERMINAL)
    for one, state in states.items():
        if submitted[one] != 1 or (state in TERMINAL and ended[one] != 1):
            yield f"{_name(accepted, one)} was logged as submitted {submitted[one]} and as ended {ended[one]} times"


def _webhooks(
    database: Database, deployment: Deployment, accepted: Mapping[str, str], states: Mapping[str, str]
) -> Iterator[str]:
    ended = {one: state for one, state in states.items() if state in {"succeeded", "failed"}}
    if not ended:
        return
    statement = _among(
        "SELECT audit_id, id, event, state FROM webhook_deliveries "
        "WHERE audit_id IN :ids AND event IN ('audit.succeeded', 'audit.failed')"
    )
    deadline = time.monotonic() + DELIVERY_S
    while True:
        with database.reading() as connection:
            rows = connection.execute(statement, {"ids": list(ended)}).all()
        if all(row.state == "delivered" for row in rows) or time.monotonic() > deadline:
            break
        time.sleep(0.3)
    arrived: dict[str, set[str]] = {}
    for asked in list(deployment.receiver.asked):
        body = json.loads(asked.body)
        audit_id = body.get("data", {}).get("audit_id") or body.get("data", {}).get("id")
        arrived.setdefault(audit_id, set()).add(f"{asked.headers['webhook-id']} {body['type']}")
    for one, state in ended.items():
        own = [row for row in rows if row.audit_id == one]
        if [row.event for row in own] != [f"audit.{state}"]:
            yield f"{_name(accepted, one)} has {len(own)} webhook events"
        elif own[0].state != "delivered":
            yield f"{_name(accepted, one)}: its webhook event is {own[0].state}"
        elif arrived.get(one) != {f"{own[0].id} audit.{state}"}:
            yield f"{_name(accepted, one)}: the receiver got {arrived.get(one)}"


def _reports(
    deployment: Deployment,
    accepted: Mapping[str, str],
    states: Mapping[str, str],
    undisturbed: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    for one, kind in accepted.items():
        if states.get(one) != "succeeded":
            continue
        answer = deployment.client.get(f"/v1/audits/{one}/report")
        if answer.status_code != 200:
            yield f"{_name(accepted, one)}: its report answers {answer.status_code}"
        elif kind in undisturbed:
            report = comparable(answer.json())
            differ = sorted(name for name in report if report[name] != undisturbed[kind].get(name))
            if differ:
                yield f"{_name(accepted, one)}: {', '.join(differ)} differ from the undisturbed run"
