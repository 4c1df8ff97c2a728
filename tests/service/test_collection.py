"""The collection of blobs: nothing that is or becomes referenced is lost, whatever happens at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
import sqlalchemy

from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.images import BatchEntry, BatchManifest
from auditcore.errors import UnreachableResource
from auditcore_service.settings import Settings
from auditcore_service.store.audits import insert_audit
from auditcore_service.store.batches import insert_batch
from auditcore_service.store.blobs import BlobStore, BlobStoreUnavailable
from auditcore_service.store.database import Database
from auditcore_service.store.map_files import insert_map_file
from auditcore_service.store.records import NewShard, ShardKey
from auditcore_service.store.shards import claim_shard, complete_shard
from auditcore_service.store.tables import AUDIT_INPUTS, AUDITS, PICTURES
from auditcore_service.use_cases.collection import Amount, Collected, Collection
from command_line import run
from s3_server import s3

HOUR_S = 3600.0
IMAGE, MASK, OTHER = b"an image", b"a mask", b"something else"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An empty bucket; a client of another test's server, which has stopped, would be found in fsspec's cache."""
    s3fs.S3FileSystem.clear_instance_cache()
    with s3({"blobs": {}}):
        yield "s3://blobs"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return BlobStore(f"file://{tmp_path / 'blobs'}")
    return BlobStore(f"{request.getfixturevalue('bucket')}/{uuid.uuid4()}")


@pytest.fixture
def folder(tmp_path: Path) -> BlobStore:
    return BlobStore(f"file://{tmp_path / 'blobs'}")


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'service.db'}")
    opened.migrate()
    yield opened
    opened.close()


def collection(database: Database, blobs: BlobStore, *, hours: float = 3) -> Collection:
    """A collection as it will be in some hours."""
    return Collection(Settings(), database=database, blobs=blobs, clock=lambda: time.time() + hours * HOUR_S)


def stored(blobs: BlobStore) -> set[str]:
    return {blob.digest for blob in blobs.list_stored()}


def set_aside(blobs: BlobStore) -> set[str]:
    return {blob.digest for blob in blobs.list_set_aside()}


def store_batch(database: Database, *images: bytes, mask: bytes | None = None, tenant: str = "default") -> str:
    masks = () if mask is None else ({"png": sha256(mask)},)
    entries = tuple(
        BatchEntry.model_validate(
            {"name": f"{number}.png", "digest": sha256(image), "size_bytes": len(image), "masks": masks}
        )
        for number, image in enumerate(images)
    )
    digest = sha256(b"".join(images))
    with database.writing(tenant) as connection:
        insert_batch(connection, digest=digest, manifest=BatchManifest(entries=entries), size_bytes=1, now=1.0)
    return digest


def store_audit(database: Database, audit_id: str, *, request: str = "{}", plan: str = "{}") -> None:
    shards = [
        NewShard(wave=wave, index=0, kind=kind, start=0, stop=1, weight=1.0)  # type: ignore[arg-type]
        for wave, kind in enumerate(("compute", "assemble"))
    ]
    with database.writing("default") as connection:
        insert_audit(connection, audit_id=audit_id, request=request, plan=plan, images=1, shards=shards, now=1.0)


def complete(database: Database, audit_id: str, wave: int, digest: str) -> None:
    key = ShardKey(audit_id, wave, 0)
    with database.writing() as connection:
        assert claim_shard(connection, key, now=1.0, lease_s=9.0)
        assert complete_shard(connection, key, attempt=1, result_digest=digest, now=2.0, verdict="pass").applied


def test_only_what_nothing_references_is_set_aside_and_then_deleted(sqlite: Database, blobs: BlobStore) -> None:
    for data in (IMAGE, MASK, OTHER):
        blobs.put(data)
    store_batch(sqlite, IMAGE, mask=MASK)
    other = Amount(1, len(OTHER))
    assert collection(sqlite, blobs, hours=0).collect() == Collected()
    assert collection(sqlite, blobs).collect(dry_run=True) == Collected(set_aside=other)
    assert set_aside(blobs) == set()
    assert collection(sqlite, blobs).collect() == Collected(set_aside=other)
    assert set_aside(blobs) == {sha256(OTHER)}
    assert collection(sqlite, blobs, hours=0).collect() == Collected()
    assert collection(sqlite, blobs).collect(dry_run=True) == Collected(deleted=other)
    assert collection(sqlite, blobs).collect() == Collected(deleted=other)
    with pytest.raises(UnreachableResource):
        blobs.get(sha256(OTHER))
    assert stored(blobs) == {sha256(IMAGE), sha256(MASK)}
    assert set_aside(blobs) == set()


def test_an_upload_that_found_its_bytes_stored_loses_nothing(sqlite: Database, blobs: BlobStore) -> None:
    blobs.put(IMAGE)
    # the upload finds the bytes and writes nothing; then the collector looks; then the upload commits its row
    blobs.put(IMAGE)
    assert collection(sqlite, blobs).collect().set_aside.blobs == 1
    store_batch(sqlite, IMAGE)
    # a reader stores them again; the copy set aside is one too many
    assert blobs.get(sha256(IMAGE)) == IMAGE
    assert stored(blobs) == set_aside(blobs) == {sha256(IMAGE)}
    assert collection(sqlite, blobs).collect() == Collected(restored=Amount(1, len(IMAGE)))
    assert (stored(blobs), set_aside(blobs)) == ({sha256(IMAGE)}, set())


def test_what_is_referenced_by_now_is_restored(sqlite: Database, blobs: BlobStore) -> None:
    blobs.put(IMAGE)
    collection(sqlite, blobs).collect()
    store_batch(sqlite, IMAGE)
    assert collection(sqlite, blobs).collect() == Collected(restored=Amount(1, len(IMAGE)))
    assert (stored(blobs), set_aside(blobs)) == ({sha256(IMAGE)}, set())


def test_bytes_that_are_set_aside_are_written_again(sqlite: Database, blobs: BlobStore) -> None:
    blobs.put(IMAGE)
    collection(sqlite, blobs).collect()
    blobs.put(IMAGE)
    assert stored(blobs) == {sha256(IMAGE)}
    # the old copy goes, and the new one is too young for this collector
    later = Collection(Settings(), database=sqlite, blobs=blobs, clock=lambda: time.time() + 3 * HOUR_S)
    assert later.collect().deleted.blobs == 1
    assert blobs.get(sha256(IMAGE)) == IMAGE


def test_several_collectors_at_once(sqlite: Database, folder: BlobStore) -> None:
    kept = [f"kept {number}".encode() for number in range(20)]
    for data in (*kept, *(f"lost {number}".encode() for number in range(60))):
        folder.put(data)
    store_batch(sqlite, *kept)
    errors: list[BaseException] = []

    def collect() -> None:
        try:
            collection(sqlite, folder).collect()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            errors.append(error)

    for _ in range(2):
        threads = [threading.Thread(target=collect) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    collection(sqlite, folder).collect()
    assert errors == []
    assert stored(folder) == {sha256(data) for data in kept}
    assert set_aside(folder) == set()
    assert all(folder.get(sha256(data)) == data for data in kept)


def test_everything_that_an_audit_names_counts(database: Database, folder: BlobStore) -> None:
    maps, baseline, weights = b"maps", b"baseline", b"weights"
    result, report, picture = b"{}", b'{"verdict": "pass"}', b"picture"
    names = {data: folder.put(data) for data in (maps, baseline, weights, result, report, picture, OTHER)}
    request = f'{{"model": {{"uri": "blob:{names[weights]}"}}, "baseline": {{"report": "{names[baseline]}"}}}}'
    store_audit(database, "a", request=request, plan=f'{{"explainers": [{{"maps": "{names[maps]}"}}]}}')
    with database.writing("default") as connection:
        insert_map_file(connection, digest=names[maps], size_bytes=4, now=1.0)
        connection.execute(sqlalchemy.insert(PICTURES).values(audit_id="a", digest=names[picture]))
        baseline_row = {"audit_id": "a", "tenant": "default", "kind": "baseline", "digest": names[baseline]}
        connection.execute(sqlalchemy.insert(AUDIT_INPUTS).values(baseline_row))
    complete(database, "a", 0, names[result])
    assert collection(database, folder).collect().set_aside.blobs == 2  # the report is not listed yet
    complete(database, "a", 1, folder.put(report))
    assert collection(database, folder).collect().restored.blobs == 1
    assert set_aside(folder) == set()
    assert stored(folder) == {*names.values()} - {names[OTHER]}
    with database.writing("default") as connection:
        connection.execute(sqlalchemy.text("DELETE FROM map_files"))
    # audits that have ended do not keep maps that were deleted
    assert collection(database, folder).collect().set_aside.blobs == 1
    assert set_aside(folder) == {names[maps]}


@pytest.mark.parametrize("ended", [True, False])
def test_pictures_of_an_audit_of_an_earlier_release_stay(sqlite: Database, folder: BlobStore, ended: bool) -> None:  # noqa: FBT001 - a parameter of the test
    picture = folder.put(b"picture")
    weights = sha256(b"weights")
    artifact = f'{{"image": 0, "explainer": null, "digest": "{picture}"}}'
    result = folder.put(f'{{"artifacts": [{artifact}], "model": {{"digest": "{weights}"}}}}'.encode())
    store_audit(sqlite, "a")
    with sqlite.writing() as connection:
        connection.execute(sqlalchemy.update(AUDITS).values(contents_listed=False))
    complete(sqlite, "a", 0, result)
    if ended:
        complete(sqlite, "a", 1, result)
    assert collection(sqlite, folder).collect() == Collected()
    with sqlite.reading() as connection:
        pictures = connection.execute(sqlalchemy.select(PICTURES.c.digest)).scalars().all()
        inputs = connection.execute(sqlalchemy.select(AUDIT_INPUTS.c.kind, AUDIT_INPUTS.c.digest)).all()
        listed = connection.execute(sqlalchemy.select(AUDITS.c.contents_listed)).scalar_one()
    found: tuple[Any, ...] = (pictures, [tuple(row) for row in inputs], listed)
    assert found == (([picture], [("model", weights)], True) if ended else ([], [], False))


def test_a_report_of_an_earlier_release_that_is_damaged_stops_nothing(sqlite: Database, folder: BlobStore) -> None:
    store_audit(sqlite, "a")
    with sqlite.writing() as connection:
        connection.execute(sqlalchemy.update(AUDITS).values(contents_listed=False))
    for wave in range(2):
        complete(sqlite, "a", wave, sha256(b"never stored"))
    folder.put(OTHER)
    assert collection(sqlite, folder).collect().set_aside.blobs == 1


def test_tenants_do_not_share_blobs(sqlite: Database, blobs: BlobStore) -> None:
    for tenant in ("default", "bank", "clinic"):
        blobs.of(tenant).put(IMAGE)
    store_batch(sqlite, IMAGE, tenant="bank")
    assert blobs.tenants() == {"default", "bank", "clinic"}
    assert collection(sqlite, blobs).collect() == Collected(set_aside=Amount(2, 2 * len(IMAGE)))
    assert [len(stored(blobs.of(tenant))) for tenant in ("default", "bank", "clinic")] == [0, 1, 0]


def test_what_a_writer_that_was_killed_left_behind_is_deleted(
    sqlite: Database, folder: BlobStore, tmp_path: Path
) -> None:
    digest = folder.put(IMAGE)
    store_batch(sqlite, IMAGE)
    (path,) = (path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
    old, young, foreign = (
        path.with_name(f"{path.name}.{name}") for name in (f"{'a' * 32}.part", f"{'b' * 32}.part", "x")
    )
    for file in (old, young, foreign):
        file.write_bytes(b"half")
    for file in (old, foreign):
        os.utime(file, (1.0, 1.0))
    collection(sqlite, folder, hours=0).collect()
    assert [file.exists() for file in (path, old, young, foreign)] == [True, False, True, True]
    assert stored(folder) == {digest}


def test_the_command_says_what_it_does(tmp_path: Path) -> None:
    missing = run("collect", "--data", tmp_path / "nowhere")
    assert missing.exit_code == 2
    assert "there is no database" in missing.stderr
    assert not (tmp_path / "nowhere").exists()
    settings = Settings(data_dir=tmp_path)
    database, blobs = Database(settings.database), BlobStore(settings.blobs)
    database.migrate()
    database.close()
    blobs.put(OTHER)
    for path in (tmp_path / "blobs").rglob("*"):
        os.utime(path, (1.0, 1.0))
    for dry_run, left in ((True, set()), (False, {sha256(OTHER)})):
        result = run("collect", "--data", tmp_path, *(["--dry-run"] if dry_run else []))
        assert result.exit_code == 0
        expected = "would be set aside: 1 file (0.0 MB)" if dry_run else "\nset aside: 1 file (0.0 MB)"
        assert expected in result.stdout
        assert set_aside(blobs) == left


def test_a_collection_frees_space_on_a_full_disk(
    sqlite: Database, folder: BlobStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pad = b"." * 50_000
    for data in (IMAGE + pad, OTHER + pad):
        folder.put(data)
    collection(sqlite, folder).collect()
    assert len(set_aside(folder)) == 2
    store_batch(sqlite, IMAGE + pad)
    script = f"""
import resource, time
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from auditcore_service.use_cases.collection import Collection
# no file can grow beyond this, as on a disk without room; Python turns the signal into an OSError
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
database, blobs = Database({str(sqlite.engine.url)!r}), BlobStore("file://{tmp_path / "blobs"}")
print(Collection(Settings(), database=database, blobs=blobs, clock=lambda: time.time() + {3 * HOUR_S}).collect())
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert "deleted=Amount(blobs=1" in capfd.readouterr().out
    assert (stored(folder), set_aside(folder)) == ({sha256(IMAGE + pad)}, set())


def test_blobs_of_a_tenant_that_cannot_be_reached_do_not_keep_those_of_others(
    sqlite: Database, folder: BlobStore, tmp_path: Path
) -> None:
    for tenant in ("bank", "clinic"):
        folder.of(tenant).put(OTHER)
    (tmp_path / "blobs" / "tenants" / "bank" / "set-aside").write_bytes(b"a file in place of a folder")
    with pytest.raises(BlobStoreUnavailable):
        collection(sqlite, folder).collect()
    assert set_aside(folder.of("clinic")) == {sha256(OTHER)}
