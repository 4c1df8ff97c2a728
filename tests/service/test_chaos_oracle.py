"""The oracle of `make chaos` holds for an audit that nothing disturbed, and finds each kind of damage to its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from auditcore_service.store.blobs import BlobStore
from auditcore_service.store.database import Database
from chaos.deployment import EmbeddedDeployment
from chaos.oracle import Observed, judge, left_behind, temporary_files
from chaos.scene import Scene
from chaos.small_audits import comparable
from queues import NO_REDIS, has_redis
from running_service import wait

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.skipif(not has_redis(), reason=NO_REDIS)]

Ended = tuple[EmbeddedDeployment, Scene, str, Mapping[str, Mapping[str, Any]]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """A deployment with one audit that has ended, its id, and its report as that of an undisturbed run."""
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "weights").mkdir()
    deployment = EmbeddedDeployment(folder / "e", weights=folder / "weights")
    try:
        deployment.start()
        scene = Scene(deployment)
        audit_id = scene.submit("tiny")
        assert wait(deployment.client, audit_id)["state"] == "succeeded"
        report = deployment.client.get(f"/v1/audits/{audit_id}/report").json()
        yield deployment, scene, audit_id, {"tiny": comparable(report)}
    finally:
        deployment.stop()


def findings(ended: Ended, **changed: Any) -> Sequence[str]:
    deployment, scene, _, undisturbed = ended
    options = {"accepted": scene.accepted, "undisturbed": undisturbed, "seconds": 0.0, **changed}
    found: Observed = judge(deployment, **options)
    return found.findings


def change(ended: Ended, *statements: str) -> None:
    deployment, _, audit_id, _ = ended
    with closing(Database(deployment.database_url)) as database, database.writing() as connection:
        for statement in statements:
            connection.execute(text(statement), {"id": audit_id})


def test_an_undisturbed_audit_holds(ended: Ended) -> None:
    deployment, *_ = ended
    assert findings(ended) == []
    assert left_behind(deployment) == []
    assert temporary_files(deployment) == []


@pytest.mark.parametrize(
    ("damage", "undo", "found"),
    [
        (
            ["UPDATE audits SET state = 'running' WHERE id = :id"],
            ["UPDATE audits SET state = 'succeeded' WHERE id = :id"],
            "is running",
        ),
        (
            ["UPDATE shards SET state = 'queued' WHERE audit_id = :id AND kind = 'compute'"],
            ["UPDATE shards SET state = 'done' WHERE audit_id = :id AND kind = 'compute'"],
            "has succeeded, and a shard has not",
        ),
        (
            ["UPDATE shards SET kind = 'assemble' WHERE audit_id = :id AND kind = 'compute'"],
            ["UPDATE shards SET kind = 'compute' WHERE audit_id = :id AND wave = 0"],
            "assembled results",
        ),
        (
            [
                """INSERT INTO events (audit_id, kind, data, created_at) SELECT audit_id, kind, data, created_at
                FROM events WHERE audit_id = :id ORDER BY id DESC LIMIT 1"""
            ],
            ["DELETE FROM events WHERE id = (SELECT max(id) FROM events WHERE audit_id = :id)"],
            "has the events",
        ),
        (
            ["UPDATE webhook_deliveries SET event = 'audit.failed' WHERE audit_id = :id"],
            ["UPDATE webhook_deliveries SET event = 'audit.succeeded' WHERE audit_id = :id"],
            "webhook events",
        ),
        (
            ["UPDATE log_entries SET subject = 'x' WHERE subject = :id AND kind = 'submit'"],
            ["UPDATE log_entries SET subject = :id WHERE subject = 'x'"],
            "the log does not hold",
        ),
    ],
    ids=["stuck", "undone-shard", "two-results", "two-ends", "wrong-webhook", "changed-log"],
)
def test_damage_is_found(ended: Ended, damage: list[str], undo: list[str], found: str) -> None:
    change(ended, *damage)
    try:
        assert any(found in one for one in findings(ended))
    finally:
        change(ended, *undo)
    assert findings(ended) == []


def test_a_lost_audit_is_found(ended: Ended) -> None:
    _, scene, _, _ = ended
    assert findings(ended, accepted={**scene.accepted, "no-such-audit": "tiny"}) == ["audit no-such- (tiny) is lost"]


def test_another_score_is_found(ended: Ended) -> None:
    *_, undisturbed = ended
    (found,) = findings(ended, undisturbed={"tiny": {**undisturbed["tiny"], "results": []}})
    assert "results differ from the undisturbed run" in found


def test_an_audit_that_should_have_failed_is_found(ended: Ended) -> None:
    _, _, audit_id, _ = ended
    assert len(findings(ended, failing={audit_id: "memory_exhausted"})) == 2


def test_a_part_of_a_blob_that_is_left_is_found(ended: Ended) -> None:
    deployment, *_ = ended
    digest = BlobStore(deployment.blobs_url).put(b"a blob")
    stray = next(Path(deployment.folder / "blobs").rglob(digest.removeprefix("sha256:")))
    part = stray.with_name(f"{stray.name}.not-a-part-of-ours.part")
    part.write_bytes(b"a")
    assert left_behind(deployment) == ["1 parts of blobs are kept"]
    part.unlink()
    # a blob that nothing references is what the collector deletes
    assert not stray.exists()
