"""What workers make of trainings: parts and checkpoints, turns, cancelling, and everything that can go wrong."""

from __future__ import annotations

import errno
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from sqlalchemy import update

import digits
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.audit_filters import EVERY_AUDIT
from auditcore_service.store.audits import find_audit, insert_audit
from auditcore_service.store.batches import frozen_images
from auditcore_service.store.database import Database
from auditcore_service.store.fair_order import TRAINING_WAIT_S
from auditcore_service.store.records import NewShard
from auditcore_service.store.references import referenced_blobs
from auditcore_service.store.shards import checkpoint_of
from auditcore_service.store.tables import SHARDS
from auditcore_service.store.transitions import JobKind
from auditcore_service.use_cases.annotations import GivenAnnotations
from auditcore_service.use_cases.image_batches import UploadedFile
from auditcore_service.worker import in_process_training
from auditcore_service.worker.computer import Cause, ComputerDied
from auditcore_service.worker.execution import Executor
from auditcore_service.worker.in_process_computer import InProcessComputer
from auditcore_service.worker.training_task import TrainedSteps, TrainingTask
from schema_versions import migrate_to
from service_trainings import ALLOWED, MODEL, STEPS, body_of, get, store_digits, submit, undisturbed, weights_of
from worker_process import shards

AUDIT = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}


KINDS: tuple[JobKind, ...] = ("audit", "training")


class Computer:
    """The real one, with something that happens before it trains."""

    def __init__(self, settings: Settings) -> None:
        self.real = InProcessComputer(settings)
        self.before: Callable[[Callable[[float], None]], None] = lambda _progress: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def train(
        self,
        training: TrainingTask,
        start: int,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
    ) -> TrainedSteps:
        self.before(progress)
        return self.real.train(training, start, progress=progress, enough=enough)


class Workplace:
    """A service, and workers in this process, of which each claim takes one step of a training."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.service = Service.of(settings)
        self.service.database.migrate()
        self.computer = Computer(settings)
        self.executor = self.worker()

    def worker(self, *, clock: Callable[[], float] = time.monotonic, **changes: object) -> Executor:
        return Executor(
            self.settings.model_copy(update=changes),
            database=self.service.database,
            blobs=self.service.blobs,
            queue=self.service.queue,
            computer=self.computer,
            clock=clock,
        )

    def submit_audit(self) -> str:
        body = {"model": MODEL, "images": store_digits(self.service, 2), "plan": AUDIT}
        return self.service.audits.submit(ANONYMOUS, AuditRequest.model_validate(body)).id

    def state_of_audit(self, audit_id: str) -> str:
        return self.service.audits.get(ANONYMOUS, audit_id).state

    def checkpoint(self, training_id: str) -> str | None:
        with self.service.database.reading() as connection:
            return checkpoint_of(connection, training_id)

    def is_referenced(self, digest: str) -> bool:
        with self.service.database.reading("default") as connection:
            return bytes.fromhex(digest.removeprefix("sha256:")) in referenced_blobs(connection)

    def work(self) -> None:
        while self.executor.run_next():
            pass


@pytest.fixture
def make_workplace(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Workplace]]:
    opened: list[Workplace] = []
    # a step of a digit takes less time than usually passes between two questions
    monkeypatch.setattr(in_process_training, "ASK_S", 0.0)

    def make(**overrides: object) -> Workplace:
        settings = make_settings(queue="database", heartbeat_s=0.05, **(ALLOWED | {"checkpoint_s": 1e-6} | overrides))
        opened.append(Workplace(settings))
        return opened[-1]

    yield make
    for workplace in opened:
        workplace.service.database.close()


def test_every_step_may_be_done_by_another_worker(make_workplace: Callable[..., Workplace]) -> None:
    # a worker whose time is over after each part hands the rest back
    workplace = make_workplace(shard_limit_s=0.001)
    training_id = submit(workplace.service)
    for step in range(1, STEPS):
        workplace.computer = Computer(workplace.settings)
        assert workplace.worker().run_next()
        rest, done = sorted(shards(workplace.service, training_id)[:2], key=lambda shard: -shard.start)
        assert (done.state, done.start, done.stop) == ("done", 0, step)
        assert (rest.state, rest.start, rest.stop) == ("queued", step, STEPS)
        assert workplace.checkpoint(training_id) == done.result_digest
    assert get(workplace.service, training_id).progress.fraction == pytest.approx((STEPS - 1) / STEPS / 1.02, abs=1e-3)
    workplace.work()
    assert weights_of(workplace.service, training_id) == undisturbed()
    report = workplace.service.trainings.file(
        ANONYMOUS, workplace.service.trainings.report_digest(ANONYMOUS, training_id)
    )
    assert TrainingReport.model_validate_json(report).attempts == STEPS


def test_only_the_newest_checkpoint_is_kept_and_none_after_the_end(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace(shard_limit_s=0.001)
    training_id = submit(workplace.service)
    seen = []
    while get(workplace.service, training_id).state != "succeeded":
        workplace.executor.run_next()
        newest = workplace.checkpoint(training_id)
        if newest is not None:
            assert workplace.is_referenced(newest)
            seen.append(newest)
        assert [one for one in seen if workplace.is_referenced(one)] == ([] if newest is None else [newest])
    assert len(set(seen)) == STEPS
    assert workplace.checkpoint(training_id) is None
    assert workplace.is_referenced(workplace.service.trainings.weights_digest(ANONYMOUS, training_id))


def test_a_worker_goes_on_without_reading_its_checkpoint(
    make_workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = make_workplace()
    training_id = submit(workplace.service)
    read = []
    monkeypatch.setattr(Executor, "_checkpoint", lambda *_: read.append(1))
    workplace.work()
    assert get(workplace.service, training_id).state == "succeeded"
    assert read == []
    # its own steps are one claim, however many parts were stored
    assert [shard.attempt for shard in shards(workplace.service, training_id)] == [0, 1, 1]


def test_audits_come_first_also_between_the_parts_of_a_training(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    training_id = submit(workplace.service)
    first = workplace.submit_audit()
    workplace.executor.run_next()
    assert (workplace.state_of_audit(first), get(workplace.service, training_id).state) == ("finalizing", "queued")
    workplace.executor.run_next()
    assert workplace.state_of_audit(first) == "succeeded"

    late: list[str] = []
    workplace.computer.before = lambda _progress: late.extend([] if late else [workplace.submit_audit()])
    workplace.executor.run_next()
    # one part, then the rest was handed back
    assert [shard.stop for shard in shards(workplace.service, training_id) if shard.state == "done"] == [1]
    workplace.executor.run_next()
    workplace.executor.run_next()
    assert workplace.state_of_audit(late[0]) == "succeeded"
    assert get(workplace.service, training_id).state == "running"
    workplace.work()
    assert weights_of(workplace.service, training_id) == undisturbed()


def test_a_worker_does_one_part_of_a_training_that_audits_have_kept_waiting(
    make_workplace: Callable[..., Workplace],
) -> None:
    workplace = make_workplace()
    training_id = submit(workplace.service)
    now = [0.0]
    worker = workplace.worker(clock=lambda: now[0])

    def steps_after_a_turn(worker: Executor) -> int:
        audit_id = workplace.submit_audit()
        with workplace.service.database.writing() as connection:
            # as if it had been queued earlier
            earlier = SHARDS.c.queued_at - TRAINING_WAIT_S
            mine = (SHARDS.c.audit_id == training_id) & (SHARDS.c.state == "queued")
            connection.execute(update(SHARDS).where(mine).values(queued_at=earlier))
        assert worker.run_next()
        done = [shard.stop for shard in shards(workplace.service, training_id) if shard.state == "done"]
        workplace.service.audits.cancel(ANONYMOUS, audit_id)
        return max(done, default=0)

    assert steps_after_a_turn(worker) == 1
    # the next turn is an audit's: this worker has just trained
    assert steps_after_a_turn(worker) == 1
    now[0] = TRAINING_WAIT_S - 1
    assert steps_after_a_turn(worker) == 1
    now[0] = TRAINING_WAIT_S
    assert steps_after_a_turn(worker) == 2
    assert steps_after_a_turn(workplace.worker()) == 3
    workplace.work()
    assert weights_of(workplace.service, training_id) == undisturbed()


def test_workers_do_only_what_their_queues_hold(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    training_id, audit_id = submit(workplace.service), workplace.submit_audit()
    audits, trainings = (workplace.worker(queues=queues) for queues in (("gpu", "control"), ("training",)))
    while trainings.run_next():
        pass
    assert (get(workplace.service, training_id).state, workplace.state_of_audit(audit_id)) == ("succeeded", "queued")
    again = submit(workplace.service)
    while audits.run_next():
        pass
    assert (get(workplace.service, again).state, workplace.state_of_audit(audit_id)) == ("queued", "succeeded")


def test_a_full_disk_in_the_middle_of_a_checkpoint_costs_nothing_but_time(
    make_workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = make_workplace(shard_limit_s=0.001)
    training_id = submit(workplace.service)
    workplace.executor.run_next()
    before = workplace.checkpoint(training_id)
    assert before is not None

    def fill(source: BinaryIO, target: BinaryIO, _length: int) -> None:
        target.write(source.read(100))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(shutil, "copyfileobj", fill)
        workplace.executor.run_next()
        waiting = get(workplace.service, training_id).waiting
        assert waiting is not None
        assert waiting.reason in {"blob_store", "disk"}
    rest = next(shard for shard in shards(workplace.service, training_id) if shard.state == "queued")
    assert (rest.start, rest.faults, rest.losses, rest.postponements) == (1, 0, 0, 1)
    assert workplace.checkpoint(training_id) == before
    assert list(Path(workplace.settings.blobs.removeprefix("file://")).rglob("*.part")) == []
    while get(workplace.service, training_id).state != "succeeded":
        workplace.executor.run_next()
    assert weights_of(workplace.service, training_id) == undisturbed()


def test_a_training_that_diverges_fails_with_what_to_change(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    training_id = submit(workplace.service, optimizer={"kind": "sgd", "learning_rate": 100}, epochs=30)
    workplace.work()
    training = get(workplace.service, training_id)
    assert training.state == "failed"
    assert training.failure is not None
    assert (training.failure.code, training.failure.field) == ("training_diverged", "plan.optimizer.learning_rate")
    assert workplace.checkpoint(training_id) is None
    assert training.weights_digest is None


def test_a_budget_that_is_too_small_says_so(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    body = body_of(store_digits(workplace.service)) | {"budget_seconds": 1e-6}
    training_id = workplace.service.trainings.submit(ANONYMOUS, TrainingRequest.model_validate(body)).id
    workplace.work()
    failure = get(workplace.service, training_id).failure
    assert failure is not None
    assert (failure.code, failure.field) == ("budget_too_small", "budget_seconds")


@pytest.mark.parametrize(
    ("cause", "code", "field"),
    [("killed", "model_kills_worker", "model"), ("memory", "memory_exhausted", "plan.batch_size")],
)
def test_a_process_that_dies_again_and_again_fails_the_training(
    make_workplace: Callable[..., Workplace], cause: Cause, code: str, field: str
) -> None:
    workplace = make_workplace(max_attempts=2)
    training_id = submit(workplace.service)

    def die(_progress: Callable[[float], None]) -> None:
        msg = "killed by signal 9"
        raise ComputerDied(msg, cause=cause, loading=False)

    workplace.computer.before = die
    while get(workplace.service, training_id).state in {"queued", "running"}:
        workplace.executor.run_next()
    failure = get(workplace.service, training_id).failure
    assert failure is not None
    assert (failure.code, failure.field) == (code, field)
    # a range of steps is not halved as a range of images is
    first = shards(workplace.service, training_id)[0]
    assert (first.start, first.stop, first.faults) == (0, STEPS, 2)


def test_a_training_is_cancelled_in_the_middle_of_its_steps(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace(checkpoint_s=60.0)
    training_id = submit(workplace.service, epochs=2000)
    workplace.computer.before = lambda _progress: workplace.service.trainings.cancel(ANONYMOUS, training_id)
    assert workplace.executor.run_next()
    training = get(workplace.service, training_id)
    assert (training.state, training.weights_digest, workplace.checkpoint(training_id)) == ("cancelled", None, None)


def test_an_image_that_cannot_be_decoded_makes_fewer_steps(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    images = digits.encoded(40, labeled=True)
    files = [
        # fewer than half of them are left, for which two batches are enough
        UploadedFile(image.name or "", io.BytesIO(b"\x89PNG broken" if image.index < 15 else image.data), "images")
        for image in images
    ]
    given = GivenAnnotations(labels=json.dumps([image.label for image in images]))
    batch = {"kind": "batch", "digest": workplace.service.batches.store(ANONYMOUS, files, annotations=given).digest}
    training_id = workplace.service.trainings.submit(ANONYMOUS, TrainingRequest.model_validate(body_of(batch))).id
    assert shards(workplace.service, training_id)[0].stop == STEPS
    workplace.work()
    assert get(workplace.service, training_id).state == "succeeded"
    report = TrainingReport.model_validate_json(
        workplace.service.trainings.file(ANONYMOUS, workplace.service.trainings.report_digest(ANONYMOUS, training_id))
    )
    assert len(report.data.left_out) == 15
    assert report.cost.backward_images == 3 * report.data.training_images < 3 * 30


def test_weights_stay_while_an_audit_names_them(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    service = workplace.service
    named, unnamed = submit(service), submit(service, seed=1)
    workplace.work()
    digests = [service.trainings.weights_digest(ANONYMOUS, one) for one in (named, unnamed)]
    model = MODEL | {"weights": {"uri": f"blob:{digests[0]}"}}
    body = {"model": model, "images": store_digits(service, 2), "plan": AUDIT}
    service.audits.submit(ANONYMOUS, AuditRequest.model_validate(body))
    for one in (named, unnamed):
        service.deletions.training(ANONYMOUS, one)
    assert [workplace.is_referenced(digest) for digest in digests] == [True, False]


def test_old_trainings_are_deleted_as_old_audits_are(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace(retention_days=1)
    service = workplace.service
    training_id = submit(service)
    workplace.work()
    retention = service.housekeeping._retention
    assert retention.enforce() == 0
    now = retention._clock()
    retention._clock = lambda: now + 2 * 86400
    # the training, and then its images
    assert retention.enforce() == 2
    assert service.trainings.page(ANONYMOUS, cursor=None, limit=9, wanted=EVERY_AUDIT)[0] == ()
    with service.database.reading("default") as connection:
        assert training_id in str(connection.exec_driver_sql("SELECT subject FROM log_entries").all())


def test_webhooks_hear_of_trainings(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    service = workplace.service
    hooks = {
        events: service.webhooks.register(ANONYMOUS, url="https://1.1.1.1/hook", events=(events,), description="")
        for events in ("training.succeeded", "audit.succeeded")
    }
    training_id = submit(service)
    workplace.work()
    (sent,), _ = service.webhooks.deliveries(ANONYMOUS, hooks["training.succeeded"].id, cursor=None, limit=9)
    payload = json.loads(sent.payload)
    assert (payload["type"], payload["data"]["training_id"]) == ("training.succeeded", training_id)
    assert payload["data"]["links"]["weights"] == f"/v1/trainings/{training_id}/weights"
    assert service.webhooks.deliveries(ANONYMOUS, hooks["audit.succeeded"].id, cursor=None, limit=9)[0] == ()


def test_going_back_to_the_version_before_leaves_only_audits(database: Database) -> None:
    shard = NewShard(wave=0, index=0, kind="train", start=0, stop=1, weight=1.0)
    with database.writing("default") as connection:
        for kind in KINDS:
            insert_audit(
                connection, audit_id=kind, request="{}", plan="{}", images=1, shards=[shard], now=1.0, kind=kind
            )
    migrate_to(database, "0014")
    database.migrate()
    with database.reading("default") as connection:
        found = [find_audit(connection, kind, kind=None) for kind in KINDS]
    # one that a gateway of the version before writes is an audit too
    assert [one and one.kind for one in found] == ["audit", None]


def test_images_behind_uris_are_fetched_once_and_counted_in_their_own_list(
    make_workplace: Callable[..., Workplace], tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    _, labels = digits.digit_pixels()
    for number in range(8):
        (folder / f"{number}.png").write_bytes(b"\x89PNG broken" if number == 7 else digits.png(number))
    uris = [{"uri": (folder / f"{number}.png").as_uri(), "label": int(labels[number])} for number in range(8)]
    workplace = make_workplace(file_roots=(folder,), shard_limit_s=0.001)
    body = body_of({"kind": "uris", "uris": uris[:5]}) | {"validation": {"kind": "uris", "uris": uris[5:]}}
    service = workplace.service
    training_id = service.trainings.submit(ANONYMOUS, TrainingRequest.model_validate(body)).id
    workplace.executor.run_next()
    for file in folder.iterdir():
        file.unlink()
    workplace.computer = Computer(workplace.settings)
    workplace.executor = workplace.worker()
    workplace.work()
    assert get(service, training_id).state == "succeeded"
    with service.database.reading() as connection:
        assert sorted(frozen_images(connection, training_id)) == list(range(8))
    report = TrainingReport.model_validate_json(
        service.trainings.file(ANONYMOUS, service.trainings.report_digest(ANONYMOUS, training_id))
    )
    assert (report.data.training_images, report.data.validation_images) == (5, 2)
    assert [(one.images, one.index, one.name) for one in report.data.left_out] == [("validation", 2, "7.png")]
