"""What is kept for too long is deleted by the service itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy
from fastapi.testclient import TestClient
from pydantic import SecretStr

from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.images import BatchEntry, BatchManifest
from auditcore_service.cli.tenants import change_tenant
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS, operator
from auditcore_service.settings import Settings
from auditcore_service.store.audit_inputs import AuditInput
from auditcore_service.store.audits import insert_audit
from auditcore_service.store.batches import insert_batch
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.event_log import read_log
from auditcore_service.store.map_files import insert_map_file
from auditcore_service.store.records import NewShard
from auditcore_service.store.tables import AUDITS, IMAGE_BATCHES, MAP_FILES
from auditcore_service.use_cases.collection import Collection
from auditcore_service.use_cases.deletions import Deletions
from auditcore_service.use_cases.housekeeping import Housekeeping
from auditcore_service.use_cases.refusals import Deleted
from auditcore_service.use_cases.retention import DAY_S, Retention

NOW = 100 * DAY_S
OLD, RECENT = NOW - 31 * DAY_S, NOW - 29 * DAY_S
USED, UNUSED, USED_AGAIN = sha256(b"used"), sha256(b"unused"), sha256(b"used again")


@pytest.fixture
def service(make_settings: Callable[..., Settings], database_url: str) -> Iterator[Service]:
    app = create_app(make_settings(database_url=SecretStr(database_url), retention_days=30))
    with TestClient(app):
        opened: Service = app.state.service
        yield opened


def store_audit(
    database: Database, audit_id: str, *, finished_at: float | None, state: str = "succeeded", tenant: str = "default"
) -> None:
    shards = [NewShard(wave=0, index=0, kind="assemble", start=0, stop=1, weight=1.0)]
    with database.writing(tenant) as connection:
        insert_audit(
            connection,
            audit_id=audit_id,
            request="{}",
            plan="{}",
            images=1,
            shards=shards,
            now=OLD,
            inputs=[AuditInput("batch", USED), AuditInput("maps", USED)] if finished_at != OLD else [],
        )
        connection.execute(
            sqlalchemy.update(AUDITS).where(AUDITS.c.id == audit_id).values(state=state, finished_at=finished_at)
        )


def store_uploads(database: Database, digest: str, *, now: float) -> None:
    manifest = BatchManifest(entries=(BatchEntry(name="a.png", digest=sha256(b"image"), size_bytes=5),))
    with database.writing("default") as connection:
        insert_batch(connection, digest=digest, manifest=manifest, size_bytes=5, now=now)
        insert_map_file(connection, digest=digest, size_bytes=4, now=now)


def ids(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def enforce(service: Service, days: int | None = 30) -> int:
    settings = service.settings.model_copy(update={"retention_days": days})
    retention = Retention(settings, database=service.database, deletions=service.deletions, clock=lambda: NOW)
    return retention.enforce()


def test_what_is_older_than_its_tenant_wants_is_deleted(service: Service) -> None:
    database = service.database
    store_audit(database, ids(1), finished_at=OLD)
    store_audit(database, ids(2), finished_at=OLD, state="cancelled")
    store_audit(database, ids(3), finished_at=RECENT)
    store_audit(database, ids(4), finished_at=None, state="running")
    store_audit(database, ids(5), finished_at=OLD, tenant="bank")
    for digest in (USED, UNUSED, USED_AGAIN):
        store_uploads(database, digest, now=OLD)
    store_uploads(database, USED_AGAIN, now=RECENT)

    assert enforce(service, days=None) == 0
    assert enforce(service, days=32) == 0
    assert enforce(service) == 5
    with database.reading() as connection:
        assert connection.execute(sqlalchemy.select(AUDITS.c.id).order_by(AUDITS.c.id)).scalars().all() == [
            ids(3),
            ids(4),
        ]
        for table in (IMAGE_BATCHES, MAP_FILES):
            assert set(connection.execute(sqlalchemy.select(table.c.digest)).scalars()) == {USED, USED_AGAIN}
    logged = []
    for tenant in ("default", "bank"):
        with database.reading(tenant) as connection:
            logged += [one for one in read_log(connection, limit=99) if one.kind == "delete"]
    assert {(one.principal, one.data["reason"], one.subject) for one in logged} == {
        (None, "retention", subject) for subject in (ids(1), ids(2), ids(5), UNUSED)
    }
    assert [one.tenant for one in logged if one.subject == ids(5)] == ["bank"]
    assert len(logged) == 5
    with pytest.raises(Deleted, match="at the end of the time for which it is kept"):
        service.audits.get(ANONYMOUS, ids(1))


def test_an_upload_is_kept_while_an_audit_that_is_kept_names_it(service: Service) -> None:
    store_audit(service.database, ids(1), finished_at=RECENT)
    store_uploads(service.database, USED, now=OLD)
    assert enforce(service) == 0
    service.deletions.audit(ANONYMOUS, ids(1))
    assert enforce(service) == 2


def test_a_report_that_cannot_be_read_keeps_only_its_own_audit(service: Service) -> None:
    store_audit(service.database, ids(1), finished_at=OLD - 1)
    store_audit(service.database, ids(2), finished_at=OLD)
    report = service.blobs.put(b"{}")
    _break(service.settings, report)
    with service.database.writing() as connection:
        connection.execute(sqlalchemy.update(AUDITS).where(AUDITS.c.id == ids(1)).values(report_digest=report))
    assert enforce(service) == 1
    assert service.audits.get(ANONYMOUS, ids(1)).report_digest == report
    with pytest.raises(Deleted):
        service.audits.get(ANONYMOUS, ids(2))


def _break(settings: Settings, digest: str) -> None:
    """Make the file of a blob unreadable, as a broken disk does: nobody can read a folder."""
    (file,) = settings.data_dir.rglob(digest.removeprefix("sha256:"))
    file.unlink()
    file.mkdir()


def test_a_tenant_keeps_its_objects_for_as_long_as_the_operator_has_set(service: Service) -> None:
    for number, tenant in enumerate(("default", "bank", "clinic", "bakery"), start=1):
        store_audit(service.database, ids(number), finished_at=OLD, tenant=tenant)
    change_tenant(service.database, "bank", {"retention_days": "32"})
    change_tenant(service.database, "clinic", {"retention_days": "none"})
    change_tenant(service.database, "bakery", {"retention_days": "30"})
    assert enforce(service, days=None) == 1
    with pytest.raises(Deleted):
        service.audits.get(operator("bakery"), ids(4))
    assert enforce(service) == 1
    with pytest.raises(Deleted):
        service.audits.get(ANONYMOUS, ids(1))
    change_tenant(service.database, "bank", {"retention_days": "default"})
    assert enforce(service) == 1
    with pytest.raises(Deleted):
        service.audits.get(operator("bank"), ids(2))
    assert service.audits.get(operator("clinic"), ids(3)).id == ids(3)


def test_files_are_collected_although_rows_cannot_be_deleted(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(retention_days=30, collect_s=0.05)
    database, blobs = Database(settings.database), BlobStore(settings.blobs)
    database.migrate()
    collection = Collection(settings, database=database, blobs=blobs, clock=lambda: time.time() + DAY_S)
    deletions = Deletions(database=database, audits=None, trainings=None, experiments=None, evidence=None)  # type: ignore[arg-type]
    blobs.put(b"unused")
    with database.writing() as connection:
        # nobody can ask how long a tenant keeps its objects, as when the disk is full
        connection.execute(sqlalchemy.text("ALTER TABLE tenants RENAME TO away"))
    store_audit(database, ids(1), finished_at=OLD)
    housekeeping = Housekeeping(
        settings, retention=Retention(settings, database=database, deletions=deletions), collection=collection
    )
    housekeeping.start()
    try:
        deadline = time.monotonic() + 30
        while not list(blobs.list_set_aside()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        housekeeping.stop()
        database.close()


def test_the_service_does_it_by_itself(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(retention_days=30, collect_s=0.05)
    database = Database(settings.database)
    database.migrate()
    store_audit(database, ids(1), finished_at=OLD)
    store_audit(database, ids(2), finished_at=time.time())
    database.close()
    with TestClient(create_app(settings)) as client:
        deadline = time.monotonic() + 30
        while client.get(f"/v1/audits/{ids(1)}").status_code != 410:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.get(f"/v1/audits/{ids(2)}").status_code == 200
