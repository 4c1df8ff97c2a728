from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from auditcore.contracts.models import DEMO_WEIGHTS_SHA256
from auditcore_service.store.audit_filters import AuditFilter
from auditcore_service.store.audits import delete_audit, find_audit, list_audits
from auditcore_service.store.contents import unlisted_audits
from auditcore_service.store.database import Database, _use_wal
from auditcore_service.store.event_log import read_log
from auditcore_service.store.records import ShardKey
from auditcore_service.store.registrations import find_registration
from auditcore_service.store.shards import claim_shard, list_shards
from auditcore_service.store.tables import METADATA
from schema_versions import migrate_to


def test_migrations_give_exactly_the_tables_of_the_code(database: Database) -> None:
    with database.reading("default") as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_processes_may_migrate_at_once(database_url: str) -> None:
    errors: list[BaseException] = []

    def migrate() -> None:
        database = Database(database_url)
        try:
            database.migrate()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            errors.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_new_database_that_another_process_creates_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "service.db"
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, writer.close)
    release.start()
    database = Database(f"sqlite:///{path}")
    try:
        database.check()
        with database.reading("default") as connection:
            assert connection.execute(sqlalchemy.text("PRAGMA journal_mode")).scalar() == "wal"
    finally:
        release.join()
        database.close()


def test_only_its_user_may_read_a_database(tmp_path: Path) -> None:
    """It holds reports and the secrets of webhooks, and other users of the machine may be curious."""
    before = os.umask(0o022)
    try:
        database = Database(f"sqlite:///{tmp_path / 'new' / 'service.db'}")
        database.migrate()
        with database.reading():
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert modes == {"service.db": 0o600, "service.db-wal": 0o600, "service.db-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_the_mode_of_a_database_that_exists_is_the_operators_choice(tmp_path: Path) -> None:
    path = tmp_path / "service.db"
    path.touch()
    path.chmod(0o640)
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_url_of_sqlites_own_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = Database(f"sqlite:///file:{tmp_path / 'service.db'}?uri=true")
    database.migrate()
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == ["service.db"]


def test_only_a_lock_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "service.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE other (id INTEGER)")

    def slept(seconds: float) -> NoReturn:
        pytest.fail(f"waited {seconds} s for something else than a lock")

    monkeypatch.setattr(time, "sleep", slept)
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as read_only,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        _use_wal(read_only)


FIRST_SCHEMA = (
    "INSERT INTO audits (id, state, request, plan, images, created_at) VALUES ('a', 'queued', '{}', '{}', 2, 1.0)",
    """INSERT INTO shards (audit_id, wave, "index", kind, state, attempt, start, stop, weight, progress, queued_at)
    VALUES ('a', 0, 0, 'compute', 'queued', 0, 0, 2, 1.0, 0.0, 1.0)""",
)
"""An audit as the first release wrote it."""


def test_a_database_of_the_first_release_is_upgraded_with_its_audits(database_url: str) -> None:
    database = Database(database_url)
    try:
        migrate_to(database, "0001")
        with database.writing("default") as connection:
            for statement in FIRST_SCHEMA:
                connection.execute(sqlalchemy.text(statement))
        database.migrate()
        with database.writing("default") as connection:
            (shard,) = list_shards(connection, "a")
            assert shard.model == 0
            assert claim_shard(connection, ShardKey("a", 0, 0), now=2.0, lease_s=9.0)
            assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    finally:
        database.close()


def test_a_process_of_the_first_release_can_still_write(database: Database) -> None:
    with database.writing("default") as connection:
        for statement in FIRST_SCHEMA:
            connection.execute(sqlalchemy.text(statement))
        assert [shard.model for shard in list_shards(connection, "a")] == [0]


def test_an_upgrade_can_be_taken_back(database: Database) -> None:
    migrate_to(database, "0001")
    with database.reading("default") as connection:
        columns = {column["name"] for column in sqlalchemy.inspect(connection).get_columns("shards")}
    assert "model" not in columns
    assert "weight" in columns
    database.migrate()
    with database.reading("default") as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_audits_from_before_the_event_log_stay_readable_and_can_go_on(database_url: str) -> None:
    database = Database(database_url)
    try:
        migrate_to(database, "0006")
        with database.writing("default") as connection:
            for statement in FIRST_SCHEMA:
                connection.execute(sqlalchemy.text(statement))
        database.migrate()
        with database.writing("default") as connection:
            audit = find_audit(connection, "a")
            assert audit is not None
            assert (audit.state, audit.replay_of, find_registration(connection, "a")) == ("queued", None, None)
            assert read_log(connection, limit=9) == ()
            assert claim_shard(connection, ShardKey("a", 0, 0), now=2.0, lease_s=9.0)
            (entry,) = read_log(connection, limit=9)
            assert (entry.sequence, entry.kind, entry.subject, entry.data) == (1, "state", "a", {"state": "running"})
    finally:
        database.close()


OLD_REQUEST = (
    '{"model": {"kind": "factory", "kwargs": {"family": "resnet"}}, '
    '"plan": {"checks": [{"kind": "sweep", "families": [{"kind": "rotate"}]}, '
    '{"kind": "ssim_sweep", "changes": [{"family": {"kind": "rotate"}, "values": [5]}]}]}}'
)
NEW_REQUEST = OLD_REQUEST.replace("families", "augmentations").replace('[{"family"', '[{"augmentation"')


def test_an_audit_under_way_takes_the_new_names_of_fields_and_begins_again(database_url: str) -> None:
    database = Database(database_url)
    try:
        migrate_to(database, "0005")
        with database.writing("default") as connection:
            for audit in ("untouched", "under way", "ended"):
                state = "succeeded" if audit == "ended" else "queued"
                connection.execute(
                    sqlalchemy.text(
                        "INSERT INTO audits (id, state, request, plan, images, created_at) "
                        "VALUES (:id, :state, :request, '{}', 2, 1.0)"
                    ),
                    {"id": audit, "state": state, "request": OLD_REQUEST},
                )
                for wave, kind in enumerate(("measure", "compute", "assemble")):
                    done = audit == "ended" or (audit == "under way" and wave == 0)
                    connection.execute(
                        sqlalchemy.text(
                            """INSERT INTO shards
                            (audit_id, wave, "index", kind, state, attempt, start, stop, weight, progress,
                            result_digest)
                            VALUES (:id, :wave, 0, :kind, :state, 1, 0, 2, 1.0, 0.5, :result)"""
                        ),
                        {
                            "id": audit,
                            "wave": wave,
                            "kind": kind,
                            "state": "done" if done else "queued" if wave == (audit == "under way") else "pending",
                            "result": "sha256:1" if done else None,
                        },
                    )
        database.migrate()
        with database.writing("default") as connection:
            requests = connection.execute(sqlalchemy.text("SELECT request FROM audits")).scalars().all()
            assert [json.loads(one) for one in requests] == 3 * [json.loads(NEW_REQUEST)]
            assert [shard.state for shard in list_shards(connection, "ended")] == ["done", "done", "done"]
            assert [shard.state for shard in list_shards(connection, "untouched")] == ["queued", "pending", "pending"]
            again = list_shards(connection, "under way")
            assert [shard.state for shard in again] == ["queued", "pending", "pending"]
            assert {shard.result_digest for shard in again} == {None}
            assert claim_shard(connection, ShardKey("under way", 0, 0), now=2.0, lease_s=9.0)
        migrate_to(database, "0005")
        with database.reading("default") as connection:
            requests = connection.execute(sqlalchemy.text("SELECT request FROM audits")).scalars().all()
            assert [json.loads(one) for one in requests] == 3 * [json.loads(OLD_REQUEST)]
    finally:
        database.close()


BEFORE_DELETION = {
    "request": json.dumps(
        {
            "models": [
                {"name": "a", "model": {"kind": "demo"}},
                {"name": "b", "model": {"kind": "timm", "name": "x", "weights": {"uri": "random:1", "sha256": None}}},
                {"name": "c", "model": {"kind": "onnx", "uri": "file:///c.onnx", "sha256": "sha256:c"}},
                {"name": "d", "model": {"kind": "torchvision", "weights": {"uri": "blob:sha256:d", "sha256": None}}},
            ],
            "images": {"kind": "batch", "digest": "sha256:images"},
            "baseline": {"report": "sha256:report"},
        }
    ),
    "plan": json.dumps({"explainers": [{"kind": "gradient"}, {"kind": "precomputed", "maps": "sha256:maps"}]}),
}


def test_audits_from_before_deletion_are_found_by_what_they_use_and_their_evidence_outlives_them(
    database_url: str,
) -> None:
    database = Database(database_url)
    try:
        migrate_to(database, "0009")
        with database.writing() as connection:
            for audit, tenant, created_at in (("a", "default", 2.0), ("b", "default", 1.0), ("c", "bank", 3.0)):
                connection.execute(
                    sqlalchemy.text(
                        "INSERT INTO audits (id, tenant, state, request, plan, images, created_at) "
                        "VALUES (:id, :tenant, 'succeeded', :request, :plan, 2, :created_at)"
                    ),
                    {"id": audit, "tenant": tenant, "created_at": created_at, **BEFORE_DELETION},
                )
                connection.execute(sqlalchemy.text(FIRST_SCHEMA[1].replace("'a'", f"'{audit}'")))
            connection.execute(
                sqlalchemy.text(
                    "INSERT INTO registrations (audit_id, digest, envelope, created_at) "
                    "VALUES ('a', 'sha256:1', 'signed', 1)"
                )
            )
        database.migrate()
        with database.writing() as connection:
            inputs = connection.execute(
                sqlalchemy.text("SELECT kind, digest FROM audit_inputs WHERE audit_id = 'a' ORDER BY kind, digest")
            )
            assert [tuple(row) for row in inputs] == [
                ("baseline", "sha256:report"),
                ("batch", "sha256:images"),
                ("maps", "sha256:maps"),
                ("model", DEMO_WEIGHTS_SHA256),
                ("model", "sha256:c"),
                ("model", "sha256:d"),
            ]
            maps = connection.execute(sqlalchemy.text("SELECT tenant, digest, created_at FROM map_files ORDER BY 1"))
            assert [tuple(row) for row in maps] == [("bank", "sha256:maps", 3.0), ("default", "sha256:maps", 1.0)]
            assert [audit.id for audit in unlisted_audits(connection)] == ["a", "b", "c"]
        with database.writing("default") as connection:
            wanted = AuditFilter(model="sha256:d")
            assert [one.id for one in list_audits(connection, after=None, limit=9, wanted=wanted)] == ["a", "b"]
            delete_audit(connection, "a")
            assert find_registration(connection, "a") is not None
        # the version before ties evidence to its audit
        migrate_to(database, "0009")
        with database.reading() as connection:
            left = connection.execute(sqlalchemy.text("SELECT count(*) FROM registrations")).scalar_one()
            assert left == 0
    finally:
        database.close()
