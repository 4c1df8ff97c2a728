"""The worker's part, in this process: a real engine, a small real network, a real Redis."""

from __future__ import annotations

import errno
import io
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from PIL import Image
from pydantic import SecretStr

from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.errors import DigestMismatch, LimitExceeded
from auditcore.orchestration import audit_run
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.blobs import BlobStore, BlobStoreUnavailable
from auditcore_service.store.records import Audit, Failure, Shard
from auditcore_service.store.shards import claim_shard, list_shards, running_leases, take_over_silent
from auditcore_service.use_cases.annotations import GivenAnnotations
from auditcore_service.use_cases.image_batches import UploadedFile
from auditcore_service.use_cases.representations import negotiate, render
from auditcore_service.waits import AT_ONCE
from auditcore_service.worker import execution
from dicom_files import BYTES_OF_THE_PATIENT, dicom_file
from small_model import SMALL_MODEL
from worker_in_process import worker_of

ONE_WAVE = {
    "explainers": [{"kind": "gradient"}],
    "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}],
}
TWO_WAVES = {
    "explainers": [{"kind": "gradient"}],
    "checks": [{"kind": "sweep", "augmentations": [{"kind": "brightness"}], "levels": 3, "top_k": 20}],
}


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Play:
    """A service and a worker without the wire between them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.service = Service.of(settings)
        self.service.database.migrate()
        self.service.announcer.start()
        self.executor = worker_of(self.service)

    def upload(self, *images: bytes, labels: str | None = None, classes: str | None = None) -> dict[str, Any]:
        files = [UploadedFile(f"{n}.png", io.BytesIO(data), f"images.{n}") for n, data in enumerate(images)]
        digest = self.service.batches.store(
            ANONYMOUS, files, annotations=GivenAnnotations(labels=labels, classes=classes)
        ).digest
        return {"kind": "batch", "digest": digest}

    def submit(self, images: dict[str, Any], plan: dict[str, Any], **changes: Any) -> str:
        request = AuditRequest.model_validate({"model": SMALL_MODEL, "images": images, "plan": plan, **changes})
        return self.service.audits.submit(ANONYMOUS, request).id

    def shards(self, audit_id: str) -> tuple[Shard, ...]:
        with self.service.database.reading("default") as connection:
            return list_shards(connection, audit_id)

    def work(self, audit_id: str, *, backwards: bool = False) -> Audit:
        """Run queued shards until there are none."""
        while queued := [shard.key for shard in self.shards(audit_id) if shard.state == "queued"]:
            for key in reversed(queued) if backwards else queued:
                self.executor.run(key)
        return self.service.audits.get(ANONYMOUS, audit_id)

    def report(self, audit_id: str) -> AuditReport:
        return AuditReport.model_validate_json(self.service.audits.report(ANONYMOUS, audit_id))

    def close(self) -> None:
        self.service.stop()


@pytest.fixture
def make_play(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., Play]]:
    opened: list[Play] = []

    def make(**overrides: object) -> Play:
        opened.append(Play(make_settings(heartbeat_s=0.05, **overrides)))
        return opened[-1]

    yield make
    for play in opened:
        play.close()


@pytest.fixture
def play(make_play: Callable[..., Play]) -> Play:
    return make_play(shard_images=2)


def test_two_waves_give_a_report_that_does_not_depend_on_order(
    make_play: Callable[..., Play], database_url: str
) -> None:
    play = make_play(shard_images=2, database_url=SecretStr(database_url))
    images = play.upload(*(photo(seed) for seed in range(5)))
    first, second = play.submit(images, TWO_WAVES), play.submit(images, TWO_WAVES)
    assert [shard.kind for shard in play.shards(first)] == ["measure"] * 3 + ["compute"] * 3 + ["assemble"]
    assert play.work(first).state == "succeeded"
    assert play.work(second, backwards=True).state == "succeeded"
    reports = [play.report(audit_id) for audit_id in (first, second)]
    assert reports[0].results == reports[1].results
    assert reports[0].intervals == reports[1].intervals
    assert len(reports[0].intervals) == 1
    assert reports[0].images.used == 5
    assert reports[0].manifest.attempts == 6
    assert reports[0].cost.forward_images == reports[1].cost.forward_images > 0


def test_the_operator_sets_the_micro_batch(make_play: Callable[..., Play]) -> None:
    play = make_play(micro_batch=3)
    audit_id = play.submit(play.upload(photo(0), photo(1)), ONE_WAVE)
    assert play.work(audit_id).state == "succeeded"
    assert play.report(audit_id).manifest.micro_batches == (3,)


def test_one_bad_image_is_listed_and_the_audit_goes_on(play: Play) -> None:
    audit_id = play.submit(play.upload(photo(0), b"no image", photo(1)), ONE_WAVE)
    assert play.work(audit_id).state == "succeeded"
    report = play.report(audit_id)
    assert [excluded.index for excluded in report.images.excluded] == [1]
    assert report.images.used == 2


def test_only_bad_images_fail_the_audit(play: Play) -> None:
    audit = play.work(play.submit(play.upload(b"no", b"image"), ONE_WAVE))
    assert audit.state == "failed"
    assert audit.failure is not None
    assert audit.failure.code == "no_usable_images"


@pytest.mark.parametrize(
    ("changes", "labels", "code", "field"),
    [
        ({"model": {**SMALL_MODEL, "name": "mobilenet_v9"}}, None, "invalid_request", "model.name"),
        ({}, "[5]", "label_out_of_range", "images.labels.0"),
        # as if folders were only some of the classes: labels would mean other classes than they say
        ({"class_names": ("cat", "dog")}, "[1]", "invalid_request", "class_names"),
    ],
)
def test_input_that_cannot_be_used_fails_at_once(
    play: Play, changes: dict[str, Any], labels: str | None, code: str, field: str
) -> None:
    audit = play.work(play.submit(play.upload(photo(0), labels=labels), ONE_WAVE, **changes))
    assert audit.state == "failed"
    assert audit.failure is not None
    assert (audit.failure.code, audit.failure.field) == (code, field)
    assert audit.failure.message
    assert play.shards(audit.id)[0].attempt == 1


def test_uris_are_fetched_once_and_then_frozen(make_play: Callable[..., Play], tmp_path: Path) -> None:
    play = make_play(file_roots=[tmp_path])
    file = tmp_path / "photo.png"
    file.write_bytes(photo(0))
    images = {"kind": "uris", "uris": [{"uri": f"file://{file}", "label": 3}]}
    audit_id = play.submit(images, TWO_WAVES)
    play.executor.run(play.shards(audit_id)[0].key)
    # gone between the two waves: the second must not look again
    file.unlink()
    assert play.work(audit_id).state == "succeeded"
    (item,) = play.report(audit_id).images.items
    assert (item.name, item.label) == ("photo.png", 3)


def test_of_a_dicom_file_at_a_uri_only_the_pixels_are_kept(make_play: Callable[..., Play], tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    play = make_play(file_roots=[folder])
    data = dicom_file(np.arange(40 * 32, dtype=np.uint16).reshape(40, 32))
    for name, content in (("whole.dcm", data), ("cut.dcm", data[:-100]), ("header.dcm", data[:500])):
        (folder / name).write_bytes(content)
    uris = [{"uri": (folder / name).as_uri()} for name in ("whole.dcm", "cut.dcm", "header.dcm")]
    audit = play.work(play.submit({"kind": "uris", "uris": uris}, ONE_WAVE))
    assert audit.state == "succeeded"
    report = play.report(audit.id)
    assert [item.name for item in report.images.items] == ["whole.dcm"]
    assert [(one.name, one.code) for one in report.images.excluded] == [
        ("cut.dcm", "undecodable_image"),
        ("header.dcm", "undecodable_image"),
    ]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.parent != folder]
    assert any(b"DICM" in content for content in kept)
    for text in BYTES_OF_THE_PATIENT:
        assert text in data
        assert not any(text in content for content in kept), text


def test_a_uri_with_other_bytes_fails_the_audit(make_play: Callable[..., Play], tmp_path: Path) -> None:
    play = make_play(file_roots=[tmp_path])
    (tmp_path / "photo.png").write_bytes(photo(0))
    uri = {"uri": f"file://{tmp_path}/photo.png", "sha256": "sha256:" + "0" * 64}
    audit = play.work(play.submit({"kind": "uris", "uris": [uri]}, ONE_WAVE))
    assert audit.failure is not None
    assert (audit.failure.code, audit.failure.field) == ("digest_mismatch", "images.uris.0.sha256")


def test_too_many_uris_are_refused_at_submit(make_play: Callable[..., Play], tmp_path: Path) -> None:
    play = make_play(file_roots=[tmp_path], batch_images=1)
    uris = {"kind": "uris", "uris": [{"uri": f"file://{tmp_path}/{n}.png"} for n in range(2)]}
    with pytest.raises(LimitExceeded):
        play.submit(uris, ONE_WAVE)


def test_an_unexpected_error_is_retried_and_then_reported_without_a_trace(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        msg = "secret detail"
        raise RuntimeError(msg)

    monkeypatch.setattr(audit_run, "run_shard", broken)
    audit = play.work(play.submit(play.upload(photo(0)), ONE_WAVE))
    assert audit.state == "failed"
    assert audit.failure == execution.INTERNAL_ERROR
    (first, *_) = play.shards(audit.id)
    assert first.attempt == play.settings.max_attempts
    assert first.error == "RuntimeError: secret detail"


def test_a_passing_error_costs_an_attempt_and_no_number(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    images = play.upload(photo(0), photo(1))
    untroubled = play.submit(images, ONE_WAVE)
    play.work(untroubled)
    real = audit_run.run_shard
    calls = 0

    def sometimes(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(audit_run, "run_shard", sometimes)
    audit_id = play.submit(images, ONE_WAVE)
    assert play.work(audit_id).state == "succeeded"
    assert play.report(audit_id).results == play.report(untroubled).results
    assert play.report(audit_id).manifest.attempts == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_store_that_takes_nothing_costs_time_and_never_the_audit(
    play: Play, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    audit_id = play.submit(play.upload(photo(0)), ONE_WAVE)
    real, probe = BlobStore.put, BlobStore.check
    tries = 0

    def refuse() -> None:
        nonlocal tries
        tries += 1
        if tries <= 25:
            raise BlobStoreUnavailable(number, "it takes nothing")

    def full(store: BlobStore, data: bytes) -> str:
        refuse()
        return real(store, data)

    def probed(store: BlobStore) -> None:
        refuse()
        probe(store)

    monkeypatch.setattr(BlobStore, "put", full)
    monkeypatch.setattr(BlobStore, "check", probed)
    assert play.executor.run(play.shards(audit_id)[0].key)
    waiting = play.service.audits.get(ANONYMOUS, audit_id).waiting
    assert waiting is not None
    assert waiting.reason == "blob_store"
    # a worker that cannot store waits with its ticket, and takes nothing until it can
    while play.service.audits.get(ANONYMOUS, audit_id).state != "succeeded":
        play.executor.run_next()
    shard = play.shards(audit_id)[0]
    assert (shard.faults, shard.losses, shard.attempt) == (0, 0, 2)
    assert play.service.audits.get(ANONYMOUS, audit_id).waiting is None


def test_cancelling_stops_a_running_shard_between_micro_batches(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(_task: ShardTask, runtime: Runtime) -> None:
        play.service.audits.cancel(ANONYMOUS, audit_id)
        assert play.service.audits.get(ANONYMOUS, audit_id).state == "cancelling"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            runtime.progress(0.5)
            time.sleep(0.01)

    monkeypatch.setattr(audit_run, "run_shard", endless)
    audit_id = play.submit(play.upload(photo(0)), ONE_WAVE)
    assert play.work(audit_id).state == "cancelled"
    assert {shard.state for shard in play.shards(audit_id)} == {"cancelled"}


def test_a_worker_that_lost_its_lease_gives_up_and_its_result_does_not_count(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = audit_run.run_shard
    audit_id = play.submit(play.upload(photo(0)), ONE_WAVE)
    key = play.shards(audit_id)[0].key
    nested: list[bool] = []

    def overtaken(*arguments: Any) -> Any:
        if not nested:
            nested.append(True)
            with play.service.database.writing("default") as connection:
                (lease,) = running_leases(connection)
                lost = Failure("worker_lost", "")
                assert take_over_silent(connection, lease, now=1.0, failure=lost, max_losses=6, backoff=AT_ONCE).applied
                assert claim_shard(connection, key, now=1.0, lease_s=9.0)
        return real(*arguments)

    monkeypatch.setattr(audit_run, "run_shard", overtaken)
    play.executor.run(key)
    shard = play.shards(audit_id)[0]
    assert (shard.state, shard.attempt, shard.result_digest) == ("running", 2, None)


def test_the_sweeper_announces_what_a_flushed_queue_lost(make_play: Callable[..., Play], redis_url: str) -> None:
    play = make_play(shard_images=1)
    audit_id = play.submit(play.upload(photo(0), photo(1)), ONE_WAVE)
    play.service.announcer.stop()  # all is sent by then
    with redis.Redis.from_url(redis_url) as queue:
        assert queue.llen("gpu") == 2
        assert play.service.sweeper.sweep() == 0
        queue.flushall()
        assert play.service.sweeper.sweep() == 2
        assert queue.llen("gpu") == 2
        # a ticket that another worker wasted is replaced, although the queue is not empty
        queue.lpop("gpu")
        assert play.service.sweeper.sweep() == 1
        # what is claimed needs no ticket
        queue.flushall()
        play.executor.run_next()
        assert play.service.sweeper.sweep() == 1
        assert play.shards(audit_id)[0].state == "done"


def test_a_report_is_also_a_page_and_a_junit_file(play: Play) -> None:
    audit_id = play.submit(play.upload(photo(0)), ONE_WAVE)
    play.work(audit_id)
    report, picture = play.service.audits.report(ANONYMOUS, audit_id), partial(play.service.audits.picture, ANONYMOUS)
    assert render(report, negotiate("text/html"), picture).lower().startswith(b"<!doctype html>")
    assert b"<testsuite" in render(report, negotiate("application/xml;q=0.9, image/png"), picture)
    assert render(report, negotiate("*/*"), picture) is report


NAMES = tuple(f"kind <{number}>" for number in range(SMALL_MODEL["classes"]))


@pytest.mark.parametrize("with_batch", [True, False])
def test_a_report_names_the_classes_that_occur_in_it(play: Play, *, with_batch: bool) -> None:
    batch = play.upload(photo(0), labels="[1]", classes=json.dumps(NAMES) if with_batch else None)
    audit_id = play.submit(batch, ONE_WAVE, **({} if with_batch else {"class_names": NAMES}))
    assert play.work(audit_id).state == "succeeded"
    images = play.report(audit_id).images
    occurring = {1, images.items[0].target}
    assert images.class_names == {number: NAMES[number] for number in occurring}
    page = render(
        play.service.audits.report(ANONYMOUS, audit_id),
        negotiate("text/html"),
        partial(play.service.audits.picture, ANONYMOUS),
    )
    assert b"label 1 (kind &lt;1&gt;)" in page
    assert f">{images.items[0].target} (kind &lt;{images.items[0].target}&gt;) <span".encode() in page


def test_a_deleted_report_blob_is_an_error_and_not_a_wrong_answer(play: Play) -> None:
    audit_id = play.submit(play.upload(photo(0)), ONE_WAVE)
    audit = play.work(audit_id)
    assert audit.report_digest is not None
    name = audit.report_digest.removeprefix("sha256:")
    (file,) = play.settings.data_dir.rglob(name)
    file.write_bytes(b"damaged")
    with pytest.raises(DigestMismatch):
        play.service.audits.report(ANONYMOUS, audit_id)


def test_faster_modes_are_accounted_for_on_the_first_images(play: Play) -> None:
    images = play.upload(*(photo(seed) for seed in range(5)))
    check = {"kind": "deletion", "grid": 8, "repeats": 1, "curve": "adaptive"}
    plan = {**ONE_WAVE, "checks": [check], "speed": {"precision": "bf16"}}
    audit_id = play.submit(images, plan)
    assert play.work(audit_id, backwards=True).state == "succeeded"
    report = play.report(audit_id)
    assert report.deviation is not None
    assert report.deviation.sample_images == 2
    assert {one.metric for one in report.deviation.stated} >= {"lerf_auc", "morf_auc", "rao_auc"}
    assert {one.steps for one in report.deviation.stated if one.metric == "lerf_auc"} == {5 * 63}
    assert report.cost.checks["deviation"].forward_images > 0
