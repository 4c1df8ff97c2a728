"""Tenants are kept apart: in every use case, in the blob store, and by PostgreSQL itself."""

from __future__ import annotations

import ast
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import numpy as np
import pytest
import sqlalchemy
from pydantic import SecretStr
from safetensors.numpy import save
from sqlalchemy.exc import ProgrammingError

import auditcore_service.use_cases
from auditcore.contracts.inspection import InspectionRequest
from auditcore.errors import InputError, UnreachableResource
from auditcore_service.gateway.service import Service
from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.audits import delete_audit
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.store.tables import AUDITS, METADATA
from auditcore_service.store.tenancy import EVERY_TENANT
from auditcore_service.use_cases.refusals import NotFound
from small_model import SMALL_MODEL
from two_tenants import OURS, PLAN, POLICY, THEIRS, photo, request, work

WITHOUT_TENANT = {"signing_keys", "speeds"}
"""Keys of the deployment; and how fast models are, by digest."""

OF_AN_AUDIT = {"shards", "events", "frozen_images", "pictures", "experiment_files"}
"""Tables whose rows belong to an audit, and by that to its tenant."""


@pytest.fixture
def service(make_settings: Callable[..., Settings], database_url: str, key_file: Path) -> Iterator[Service]:
    opened = Service.of(make_settings(database_url=SecretStr(database_url), signing_key=key_file))
    opened.start()
    yield opened
    opened.stop()


def test_nothing_of_a_tenant_exists_for_another(service: Service) -> None:
    batch = service.batches.store(OURS, [photo()]).digest
    maps = service.maps.store(OURS, io.BytesIO(save({"maps": np.zeros((1, 32, 32), np.float32)}))).digest
    service.policies.store(OURS, POLICY)
    audit = service.audits.submit(OURS, request(batch), idempotency_key="one")
    finished = work(service, audit.id)
    assert (finished.tenant, finished.state) == ("ours", "succeeded")
    service.evidence.sign_off(OURS, audit.id, signer=None, decision="approve", comment="")
    picture = service.audits.report(OURS, audit.id)
    assert picture

    for hidden in (
        lambda: service.audits.get(THEIRS, audit.id),
        lambda: service.audits.report(THEIRS, audit.id),
        lambda: service.audits.failure(THEIRS, audit.id),
        lambda: service.audits.events(THEIRS, audit.id, after=0),
        lambda: service.audits.cancel(THEIRS, audit.id),
        lambda: service.audits.artifact(THEIRS, audit.id, batch),
        lambda: service.audits.picture(THEIRS, str(finished.report_digest)),
        lambda: service.replays.start(THEIRS, audit.id),
        lambda: service.replays.compare(THEIRS, audit.id, tolerance=0.0),
        lambda: service.evidence.of_audit(THEIRS, audit.id),
        lambda: service.evidence.sign_off(THEIRS, audit.id, signer=None, decision="reject", comment=""),
        lambda: service.evidence.sign_offs(THEIRS, audit.id),
        lambda: service.batches.get(THEIRS, batch),
        lambda: service.deletions.audit(THEIRS, audit.id),
        lambda: service.deletions.batch(THEIRS, batch),
        lambda: service.deletions.maps(THEIRS, maps),
        lambda: service.policies.content(THEIRS, POLICY.label),
        lambda: service.policies.content(THEIRS, POLICY.digest),
    ):
        with pytest.raises(NotFound):
            hidden()
    with pytest.raises(InputError, match="no image batch"):
        service.audits.submit(THEIRS, request(batch))
    mine = service.batches.store(THEIRS, [photo()]).digest
    assert mine == batch
    for changes in (
        {"policy": POLICY.label},
        {"baseline": {"audit": audit.id}},
        {"baseline": {"report": finished.report_digest}},
        {"plan": {"explainers": [{"kind": "precomputed", "name": "shown", "maps": maps}], "checks": PLAN["checks"]}},
    ):
        with pytest.raises(InputError):
            service.audits.submit(THEIRS, request(mine, **changes))
        if "plan" not in changes:
            service.audits.estimate(OURS, request(batch, **changes))
    assert service.audits.page(THEIRS, cursor=None, limit=9) == ((), None)
    assert [one.document.name for one in service.policies.page(THEIRS, cursor=None, limit=9)[0]].count("scans") == 0
    assert service.evidence.log_after(THEIRS, 0, limit=9) == ()


def test_two_tenants_may_store_the_same(service: Service) -> None:
    audits = []
    for principal in (OURS, THEIRS):
        batch = service.batches.store(principal, [photo()]).digest
        assert service.policies.store(principal, POLICY)[1]
        audits.append(service.audits.submit(principal, request(batch), idempotency_key="same"))
    assert audits[0].id != audits[1].id
    again = service.audits.submit(THEIRS, request(batch), idempotency_key="same")
    assert again.id == audits[1].id
    for principal, audit in zip((OURS, THEIRS), audits, strict=True):
        assert [one.id for one in service.audits.page(principal, cursor=None, limit=9)[0]] == [audit.id]
        entries = service.evidence.log_after(principal, 0, limit=99)
        assert {entry.tenant for entry in entries} == {principal.tenant}
        assert [(entry.kind, entry.principal) for entry in entries] == [
            ("policy", principal.name),
            ("submit", principal.name),
        ]


def test_blobs_of_a_tenant_are_below_its_own_folder(service: Service, tmp_path: Path) -> None:
    batch = service.batches.store(OURS, [photo()]).digest
    work(service, service.audits.submit(OURS, request(batch)).id)
    folder = tmp_path / "service" / "blobs"
    assert [path.name for path in folder.iterdir()] == ["tenants"]
    assert [path.name for path in (folder / "tenants").iterdir()] == ["ours"]
    assert len(list((folder / "tenants" / "ours").rglob("*"))) > 3


def test_a_digest_of_another_tenant_reads_nothing(tmp_path: Path) -> None:
    store = BlobStore(f"file://{tmp_path}")
    digest = store.of("ours").put(b"x")
    assert store.of("ours").get(digest) == b"x"
    for stranger in (store, store.of("theirs"), store.of("default")):
        with pytest.raises(UnreachableResource):
            stranger.get(digest)


def test_an_answer_about_a_model_is_not_given_to_another_tenant(
    make_settings: Callable[..., Settings],
) -> None:
    service = Service.of(make_settings(inspection_wait_s=0.05))
    service.start()
    try:
        question = InspectionRequest.model_validate({"model": SMALL_MODEL})
        for principal in (OURS, THEIRS, OURS):
            assert not anyio.run(service.inspections.inspect, principal, question).complete
        with service.database.reading() as connection:
            rows = connection.execute(sqlalchemy.select(METADATA.tables["inspections"])).all()
        assert sorted(row.tenant for row in rows) == ["ours", "theirs"]
        assert len({row.digest for row in rows}) == 2
    finally:
        service.stop()


@pytest.mark.parametrize("name", ["", "*", "Ours", "a/b", "..", "a" * 64, "-a", "a\n"])
def test_a_tenant_is_a_plain_word(name: str) -> None:
    with pytest.raises(ValueError, match="small letters"):
        Principal(name, None, frozenset())


def test_every_row_has_a_tenant() -> None:
    for name, table in METADATA.tables.items():
        if name in WITHOUT_TENANT:
            assert "tenant" not in table.c
        elif name in OF_AN_AUDIT:
            (key,) = table.foreign_keys
            assert key.column is AUDITS.c.id
        elif name != "tenants":
            assert not table.c.tenant.nullable, name


def test_every_use_case_says_for_whom_it_opens_a_transaction() -> None:
    """A transaction without a tenant sees all of them; only work of the deployment itself may open one."""
    of_the_deployment = {"publish_key", "public_keys", "collect", "enforce", "newest_event", "audits_with_events"}
    for file in Path(auditcore_service.use_cases.__file__).parent.glob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if not isinstance(function, ast.FunctionDef) or function.name in of_the_deployment:
                continue
            for call in ast.walk(function):
                opens = isinstance(call, ast.Call) and getattr(call.func, "attr", None) in {"reading", "writing"}
                assert not opens or call.args, f"{file.name}:{call.lineno}"


@pytest.fixture
def owned_database(owned_postgres_url: str) -> Iterator[Database]:
    database = Database(owned_postgres_url)
    database.migrate()
    yield database
    database.close()


def test_postgresql_itself_keeps_tenants_apart(owned_database: Database) -> None:
    insert = sqlalchemy.text(
        "INSERT INTO audits (id, tenant, state, request, plan, images, created_at) "
        "VALUES (:id, :tenant, 'queued', '{}', '{}', 1, 1.0)"
    )
    event = sqlalchemy.text("INSERT INTO events (audit_id, kind, data, created_at) VALUES (:id, 'state', '{}', 1.0)")
    for tenant in ("ours", "theirs"):
        with owned_database.writing(tenant) as connection:
            connection.execute(insert, {"id": tenant, "tenant": tenant})
            connection.execute(event, {"id": tenant})
    for tenant, seen in (
        ("ours", ["ours"]),
        ("theirs", ["theirs"]),
        ("nobody", []),
        (EVERY_TENANT, ["ours", "theirs"]),
    ):
        with owned_database.reading(tenant) as connection:
            for column, table in (("id", "audits"), ("audit_id", "events")):
                # no condition: what a forgotten WHERE would show
                query = sqlalchemy.select(METADATA.tables[table].c[column]).order_by(column)
                assert connection.execute(query).scalars().all() == seen
    with owned_database.engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM audits")).scalar() == 0
    for change in (
        insert.bindparams(id="smuggled", tenant="theirs"),
        event.bindparams(id="theirs"),
    ):
        with pytest.raises(ProgrammingError, match="row-level security"), owned_database.writing("ours") as connection:
            connection.execute(change)
    with owned_database.writing("ours") as connection:
        assert connection.execute(sqlalchemy.text("UPDATE audits SET images = 2")).rowcount == 1
        assert connection.execute(sqlalchemy.text("DELETE FROM events")).rowcount == 1
    with owned_database.writing("theirs") as connection:
        delete_audit(connection, "ours")
        delete_audit(connection, "theirs")
    with owned_database.reading() as connection:
        assert connection.execute(sqlalchemy.select(METADATA.tables["audits"].c.id)).scalars().all() == ["ours"]
        assert connection.execute(sqlalchemy.select(METADATA.tables["events"].c.id)).all() == []


def test_a_database_says_whether_its_role_passes_the_walls(owned_database: Database, new_postgres_url: str) -> None:
    assert not owned_database.is_without_walls()
    superuser = Database(new_postgres_url)
    assert superuser.is_without_walls()
    superuser.close()


def test_every_table_of_tenants_is_behind_the_wall(owned_database: Database) -> None:
    with owned_database.reading() as connection:
        rows = connection.execute(
            sqlalchemy.text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
        )
        walled = set(rows.scalars())
    assert walled == set(METADATA.tables) - WITHOUT_TENANT
