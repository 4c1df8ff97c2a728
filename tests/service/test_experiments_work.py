"""What workers make of experiments: stages and waves, turns, kept files, cancelling, and what can go wrong."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import digits
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.studies.report import StudyReport
from auditcore.errors import AuditCancelled, InvalidRequest
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.audit_filters import EVERY_AUDIT
from auditcore_service.store.audits import find_audit, insert_audit
from auditcore_service.store.batches import frozen_images
from auditcore_service.store.database import Database
from auditcore_service.store.experiment_files import ExperimentFile, keep_file, list_files
from auditcore_service.store.records import Failure, NewShard, ShardKey
from auditcore_service.store.references import referenced_blobs
from auditcore_service.store.shards import claim_shard, hand_back_shard, running_leases, take_over_silent
from auditcore_service.store.transitions import JobKind
from auditcore_service.worker import in_process_training
from auditcore_service.worker.channel import ChannelBroken, Frame
from auditcore_service.worker.compute_answers import Answers
from auditcore_service.worker.compute_folders import ComputeFolder
from auditcore_service.worker.compute_messages import SAID, AskKept, AskKeptUri, ForgetKept, KeepFile
from auditcore_service.worker.computer import ComputerDied
from auditcore_service.worker.execution import Executor
from auditcore_service.worker.experiment_task import ExperimentTask
from auditcore_service.worker.stage_files import StageFiles
from auditcore_service.worker.stopping import StopRequest
from schema_versions import migrate_to
from service_experiments import (
    AUDIT,
    ROAR,
    TESTED,
    TRAINING,
    failed_audit,
    file_of,
    get,
    names,
    remedy_of,
    request_of,
    shard_of,
    states_of_stages,
    store_digits,
    study_of,
    submit_study,
)
from service_trainings import ALLOWED, MODEL
from worker_in_process import Computer
from worker_process import shards

KINDS: tuple[JobKind, ...] = ("audit", "training", "experiment")

WEIGHTS = "weights/mixup-3.safetensors"
LATER = 4e9
"""Seconds since 1970, when every wait is over."""


class Workplace:
    """A service, and workers in this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.service = Service.of(settings)
        self.service.database.migrate()
        self.computer = Computer(settings)
        self.stopping: StopRequest | None = None
        self.executor = self.worker()

    def worker(self, **changes: object) -> Executor:
        return Executor(
            self.settings.model_copy(update=changes),
            database=self.service.database,
            blobs=self.service.blobs,
            queue=self.service.queue,
            computer=self.computer,
            stopping=self.stopping,
        )

    def submit_audit(self) -> str:
        body = {"model": MODEL, "images": store_digits(self.service, 0, 2), "plan": AUDIT}
        return self.service.audits.submit(ANONYMOUS, AuditRequest.model_validate(body)).id

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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the small study of these tests, when nothing interrupts it."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("undisturbed"), queue="database", device="cpu", **ALLOWED)
    workplace = Workplace(settings)
    study = submit_study(workplace.service)
    workplace.work()
    assert get(workplace.service, study).state == "succeeded"
    weights = file_of(workplace.service, study, WEIGHTS)
    workplace.service.database.close()
    return weights


def test_stages_of_a_wave_are_open_together_and_the_next_wave_comes_after_them(
    make_workplace: Callable[..., Workplace],
) -> None:
    workplace = make_workplace(checkpoint_s=60.0)
    study = submit_study(workplace.service)
    seen = [states_of_stages(workplace.service, study)]
    while workplace.executor.run_next():
        seen.append(states_of_stages(workplace.service, study))
    assert seen == [
        {"plain-3": "queued", "mixup-3": "queued", "audit/3": "pending", "report": "pending"},
        {"plain-3": "done", "mixup-3": "queued", "audit/3": "pending", "report": "pending"},
        {"plain-3": "done", "mixup-3": "done", "audit/3": "queued", "report": "pending"},
        {"plain-3": "done", "mixup-3": "done", "audit/3": "done", "report": "queued"},
        {"plain-3": "done", "mixup-3": "done", "audit/3": "done", "report": "done"},
    ]
    # a shard's result names what its stage has kept
    shard = shard_of(workplace.service, study, "mixup-3")
    result = json.loads(workplace.service.blobs.get(str(shard.result_digest)))
    assert result["stage"] == "mixup-3"
    assert result["files"][WEIGHTS] == sha256(file_of(workplace.service, study, WEIGHTS))
    assert all("mixup-3" in name for name in result["files"])


@pytest.mark.long
def test_every_step_may_be_done_by_another_worker(
    make_workplace: Callable[..., Workplace], undisturbed: bytes, tmp_path: Path
) -> None:
    # each worker is told to stop as soon as it has begun to train
    workplace = make_workplace(checkpoint_s=60.0)
    study = submit_study(workplace.service)
    checkpoints = set()
    for number in range(100):
        stopping = workplace.stopping = StopRequest(tmp_path / f"stop-{number}")
        workplace.computer = Computer(workplace.settings)

        def stop(_: ExperimentTask, stage: Stage, stopping: StopRequest = stopping) -> None:
            if stage.wave == 0:
                stopping.make()

        workplace.computer.before = stop  # type: ignore[method-assign]
        if not workplace.worker().run_next():
            break
        checkpoints |= {
            file.digest for file in workplace.service.experiments.files(ANONYMOUS, study) if "checkpoints/" in file.name
        }
    assert get(workplace.service, study).state == "succeeded"
    assert len(checkpoints) > 10
    assert file_of(workplace.service, study, WEIGHTS) == undisturbed
    # only what is needed stays, and the collector may take what was replaced
    assert not any("checkpoints/" in name for name in names(workplace.service, study))
    assert not any(map(workplace.is_referenced, checkpoints))
    assert shard_of(workplace.service, study, "mixup-3").attempt > 5


def test_audits_come_first_also_in_the_middle_of_a_stage(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    body = {"model": MODEL, "images": store_digits(workplace.service, 0, TRAINING), "plan": ROAR}
    roar = workplace.service.experiments.submit(ANONYMOUS, request_of(body)).id
    late: list[str] = []
    stage_of_two = "retrain/0/gradient"

    def first(_: ExperimentTask, stage: Stage) -> None:
        if not late and stage.name == stage_of_two:
            late.append(workplace.submit_audit())

    workplace.computer.before = first  # type: ignore[method-assign]
    while not late:
        workplace.executor.run_next()
    # something was kept first: without that the stage would begin anew each time that an audit waits
    assert workplace.computer.done[-1] == f"{stage_of_two}, part"
    assert shard_of(workplace.service, roar, stage_of_two).state == "queued"
    kept = [one.name for one in workplace.service.experiments.files(ANONYMOUS, roar) if one.stage == stage_of_two]
    assert kept
    assert not any(name.startswith("scores/cells/0/gradient") and "0.6" in name for name in kept)
    before = len(workplace.computer.done)
    workplace.executor.run_next()
    workplace.executor.run_next()
    assert workplace.service.audits.get(ANONYMOUS, late[0]).state == "succeeded"
    assert get(workplace.service, roar).state == "running"
    workplace.work()
    assert get(workplace.service, roar).state == "succeeded"
    # nothing waited any more, so that no stage was left again
    assert workplace.computer.done[before:] == [stage_of_two, "retrain/0/random", "report"]


@pytest.mark.long
def test_a_stage_that_has_kept_nothing_is_not_left_for_others(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace(shard_limit_s=0.001)
    study = submit_study(workplace.service)
    for _ in range(2):
        workplace.submit_audit()
        workplace.executor.run_next()
    for _ in range(20):
        workplace.executor.run_next()
    assert get(workplace.service, study).state == "succeeded"
    # trainings keep nothing for a minute; the audit keeps its only part, and the rest is done in a second turn
    attempts = {name: shard_of(workplace.service, study, name).attempt for name in ("plain-3", "mixup-3", "audit/3")}
    assert attempts == {"plain-3": 1, "mixup-3": 1, "audit/3": 2}


def test_experiments_are_done_by_the_queue_of_trainings(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    study = submit_study(workplace.service)
    assert not workplace.worker(queues=("gpu", "control")).run_next()
    assert workplace.worker(queues=("training",)).run_next()
    assert get(workplace.service, study).state == "running"


def test_the_process_keeps_the_images_for_the_next_stage(
    make_workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = make_workplace(checkpoint_s=60.0)
    opened = []
    real = in_process_training.read_range
    monkeypatch.setattr(
        "auditcore_service.worker.in_process_experiment.read_range",
        lambda *arguments: (opened.append(1), real(*arguments))[1],
    )
    submit_study(workplace.service)
    workplace.work()
    # training, validation and test images, once each
    assert len(opened) == 3


def test_a_cancelled_experiment_stops_in_the_middle_of_a_stage(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace(checkpoint_s=60.0)
    study = submit_study(workplace.service, epochs=2000)
    events = iter([None])

    def cancel(_: ExperimentTask, _stage: Stage) -> None:
        if next(events, "over") is None:
            workplace.service.experiments.cancel(ANONYMOUS, study)
            assert get(workplace.service, study).state == "cancelling"

    workplace.computer.before = cancel  # type: ignore[method-assign]
    workplace.work()
    assert get(workplace.service, study).state == "cancelled"
    assert set(states_of_stages(workplace.service, study).values()) == {"cancelled"}
    assert names(workplace.service, study) == []
    assert not workplace.executor.run_next()


def test_what_finished_stages_have_kept_outlives_a_cancel_until_the_experiment_is_deleted(
    make_workplace: Callable[..., Workplace],
) -> None:
    workplace = make_workplace(checkpoint_s=60.0)
    service = workplace.service
    study = submit_study(service)
    workplace.executor.run_next()
    key = shard_of(service, study, "mixup-3").key
    with service.database.writing() as connection:
        shard = claim_shard(connection, key, now=LATER, lease_s=9.0)
        assert shard is not None
    files = StageFiles(shard, "mixup-3", database=service.database, blobs=service.blobs, store=service.blobs.put)
    files.keep("checkpoints/mixup-3", b"checkpoint")
    with service.database.writing() as connection:
        hand_back_shard(connection, key, attempt=shard.attempt, now=1.0)
    service.experiments.cancel(ANONYMOUS, study)
    assert get(service, study).state == "cancelled"
    assert {name.partition("/")[0] for name in names(service, study)} == {"trainings", "weights", "models"}
    kept = {file.digest for file in service.experiments.files(ANONYMOUS, study)}

    collection = service.housekeeping._collection
    # what was stored a moment ago is older than the grace period
    collection._clock = lambda: time.time() + 2 * workplace.settings.collection_grace_s

    def collect() -> None:
        # blobs are set aside before they are deleted
        for _ in range(2):
            collection.collect()

    collect()
    assert kept <= {blob.digest for blob in service.blobs.list_stored()}
    assert sha256(b"checkpoint") not in {blob.digest for blob in service.blobs.list_stored()}
    service.deletions.experiment(ANONYMOUS, study)
    with service.database.reading() as connection:
        assert list_files(connection, study) == ()
    collect()
    assert not kept & {blob.digest for blob in service.blobs.list_stored()}


def test_a_worker_that_was_silent_too_long_overwrites_nothing(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    service = workplace.service
    study = submit_study(service)
    key = shard_of(service, study, "plain-3").key

    def claimed() -> StageFiles:
        with service.database.writing() as connection:
            shard = claim_shard(connection, key, now=LATER, lease_s=9.0)
        assert shard is not None
        return StageFiles(shard, "plain-3", database=service.database, blobs=service.blobs, store=service.blobs.put)

    old = claimed()
    old.keep("weights/a", b"old")
    with service.database.writing() as connection:
        hand_back_shard(connection, key, attempt=1, now=1.0)
    for late in (lambda: old.keep("weights/a", b"late"), lambda: old.forget("weights/a")):
        with pytest.raises(AuditCancelled):
            late()
    new = claimed()
    for late in (lambda: old.keep("weights/a", b"late"), lambda: old.forget("weights/a")):
        with pytest.raises(AuditCancelled):
            late()
    assert new.read("weights/a") == b"old"
    new.keep("weights/a", b"new")
    assert (new.read("weights/a"), new.uri("weights/a")) == (b"new", f"blob:{sha256(b'new')}")
    service.experiments.cancel(ANONYMOUS, study)
    with pytest.raises(AuditCancelled):
        new.keep("weights/a", b"after the end")
    assert file_of(service, study, "weights/a") == b"new"
    with pytest.raises(KeyError):
        new.uri("weights/b")
    assert new.read("weights/b") is None


def test_losses_are_forgiven_only_for_something_new(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    service = workplace.service
    study = submit_study(service)
    key = shard_of(service, study, "plain-3").key
    losses = []
    for number, content in enumerate((b"a", b"a", b"a", b"b")):
        now = LATER + 1e6 * number
        with service.database.writing() as connection:
            shard = claim_shard(connection, key, now=now, lease_s=9.0)
        assert shard is not None
        StageFiles(shard, "plain-3", database=service.database, blobs=service.blobs, store=service.blobs.put).keep(
            "checkpoints/x", content
        )
        losses.append(shard_of(service, study, "plain-3").losses)
        with service.database.writing() as connection:
            (lease,) = running_leases(connection)
            take_over_silent(
                connection,
                lease,
                now=now,
                failure=Failure("worker_lost", "gone"),
                max_losses=9,
                backoff=service.settings.fault_backoff,
            )
    assert losses == [0, 1, 2, 0]


@pytest.mark.parametrize(("cause", "code"), [("memory", "memory_exhausted"), ("killed", "model_kills_worker")])
def test_a_stage_that_ends_every_process_fails_its_experiment(
    make_workplace: Callable[..., Workplace], cause: Any, code: str
) -> None:
    workplace = make_workplace(max_attempts=2, fault_wait_s=1e-6)
    study = submit_study(workplace.service)

    def die(_: ExperimentTask, _stage: Stage) -> None:
        msg = "gone"
        raise ComputerDied(msg, cause=cause, loading=False)

    workplace.computer.before = die  # type: ignore[method-assign]
    for _ in range(20):
        workplace.executor.run_next()
    failure = get(workplace.service, study).failure
    assert failure is not None
    assert failure.code == code
    assert names(workplace.service, study) == []


def test_an_experiment_that_cannot_go_on_says_why(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    study = submit_study(workplace.service)

    def refuse(_: ExperimentTask, stage: Stage) -> None:
        if stage.name == "audit/3":
            msg = "no test image can be decoded"
            raise InvalidRequest(msg, field="test")

    workplace.computer.before = refuse  # type: ignore[method-assign]
    workplace.work()
    experiment = get(workplace.service, study)
    assert (experiment.state, experiment.report_digest) == ("failed", None)
    assert experiment.failure is not None
    assert (experiment.failure.code, experiment.failure.field) == ("invalid_request", "test")
    # what was trained can still be read
    assert WEIGHTS in names(workplace.service, study)


def test_a_blob_store_that_fails_costs_no_attempt(
    make_workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = make_workplace(environment_wait_s=1e-6, checkpoint_s=60.0)
    study = submit_study(workplace.service)
    real = StageFiles.keep
    times = []

    def full(self: StageFiles, name: str, data: bytes) -> None:
        if name == WEIGHTS and len(times) < 3:
            times.append(1)
            raise OSError(28, "No space left on device")
        real(self, name, data)

    monkeypatch.setattr(StageFiles, "keep", full)
    for _ in range(30):
        workplace.executor.run_next()
    assert get(workplace.service, study).state == "succeeded"
    assert len(times) == 3
    assert shard_of(workplace.service, study, "mixup-3").faults == 0


@pytest.mark.long
def test_webhooks_hear_of_experiments(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace(checkpoint_s=60.0)
    service = workplace.service
    hooks = {
        event: service.webhooks.register(ANONYMOUS, url="https://1.1.1.1/hook", events=(event,), description="")
        for event in ("experiment.started", "experiment.succeeded", "training.succeeded", "audit.succeeded")
    }
    study = submit_study(service, epochs=1)
    workplace.work()
    for event in ("experiment.started", "experiment.succeeded"):
        (sent,), _ = service.webhooks.deliveries(ANONYMOUS, hooks[event].id, cursor=None, limit=9)
        payload = json.loads(sent.payload)
        assert (payload["type"], payload["data"]["experiment_id"]) == (event, study)
        assert payload["data"]["links"]["files"] == f"/v1/experiments/{study}/files"
        wanted = f"/v1/experiments/{study}/report" if event.endswith("succeeded") else None
        assert payload["data"]["links"]["report"] == wanted
    for event in ("training.succeeded", "audit.succeeded"):
        assert service.webhooks.deliveries(ANONYMOUS, hooks[event].id, cursor=None, limit=9)[0] == ()


def test_old_experiments_are_deleted_as_old_audits_are(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace(retention_days=1)
    service = workplace.service
    study = submit_study(service)
    service.experiments.cancel(ANONYMOUS, study)
    retention = service.housekeeping._retention
    assert retention.enforce() == 0
    now = retention._clock()
    retention._clock = lambda: now + 2 * 86400
    # the experiment, and then its two batches
    assert retention.enforce() == 3
    assert service.experiments.page(ANONYMOUS, cursor=None, limit=9, wanted=EVERY_AUDIT)[0] == ()
    with service.database.reading("default") as connection:
        assert study in str(connection.exec_driver_sql("SELECT subject FROM log_entries").all())


def test_going_back_to_the_version_before_leaves_audits_and_trainings(database: Database) -> None:
    shard = NewShard(wave=0, index=0, kind="stage", start=0, stop=1, weight=1.0)
    with database.writing("default") as connection:
        for kind in KINDS:
            insert_audit(
                connection, audit_id=kind, request="{}", plan="{}", images=1, shards=[shard], now=1.0, kind=kind
            )
        file = ExperimentFile("weights/a", "a", sha256(b""), 0, 1.0)
        assert keep_file(connection, "experiment", file)
        assert not keep_file(connection, "experiment", file)
    migrate_to(database, "0015")
    database.migrate()
    with database.reading("default") as connection:
        found = [find_audit(connection, kind, kind=None) for kind in KINDS]
        assert [one and one.kind for one in found] == ["audit", "training", None]
        assert list_files(connection, "experiment") == ()
        assert claimable_shards(connection) == {ShardKey("audit", 0, 0), ShardKey("training", 0, 0)}


def claimable_shards(connection: Any) -> set[ShardKey]:
    rows = connection.exec_driver_sql('SELECT audit_id, wave, "index" FROM shards').all()
    return {ShardKey(*row) for row in rows}


def test_files_are_of_one_tenant(database: Database) -> None:
    shard = NewShard(wave=0, index=0, kind="stage", start=0, stop=1, weight=1.0)
    for tenant in ("ours", "theirs"):
        with database.writing(tenant) as connection:
            insert_audit(
                connection,
                audit_id=tenant,
                request="{}",
                plan="{}",
                images=1,
                shards=[shard],
                now=1.0,
                kind="experiment",
            )
            keep_file(connection, tenant, ExperimentFile("a", "a", sha256(tenant.encode()), 1, 1.0))
    with database.reading("ours") as connection:
        assert [file.digest for file in list_files(connection, "ours")] == [sha256(b"ours")]
        assert list_files(connection, "theirs") == ()
        assert bytes.fromhex(sha256(b"theirs").removeprefix("sha256:")) not in referenced_blobs(connection)
        assert bytes.fromhex(sha256(b"ours").removeprefix("sha256:")) in referenced_blobs(connection)


def test_a_remedy_sees_the_bytes_that_the_audit_has_fetched(
    make_workplace: Callable[..., Workplace], tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    _, labels = digits.digit_pixels()
    uris = []
    for number in range(TRAINING, TRAINING + TESTED):
        path = folder / f"{number}.png"
        path.write_bytes(digits.png(number))
        uris.append({"uri": path.as_uri(), "label": int(labels[number])})
    workplace = make_workplace(file_roots=(folder,), checkpoint_s=60.0)
    service = workplace.service
    audit = failed_audit(service, workplace.work, images={"kind": "uris", "uris": uris})
    shutil.rmtree(folder)
    body = remedy_of(audit, store_digits(service, 0, TRAINING))
    remedy = service.experiments.submit(ANONYMOUS, request_of(body)).id
    service.deletions.audit(ANONYMOUS, audit)
    workplace.work()
    found = get(service, remedy)
    assert (found.state, found.failure) == ("succeeded", None)
    with service.database.reading() as connection:
        assert sorted(frozen_images(connection, remedy)) == list(range(TRAINING, TRAINING + TESTED))


def test_images_behind_uris_are_fetched_once(make_workplace: Callable[..., Workplace], tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    _, labels = digits.digit_pixels()

    def uris(first: int, count: int) -> dict[str, Any]:
        listed = []
        for number in range(first, first + count):
            path = folder / f"{number}.png"
            path.write_bytes(digits.png(number))
            listed.append({"uri": path.as_uri(), "label": int(labels[number])})
        return {"kind": "uris", "uris": listed}

    workplace = make_workplace(file_roots=(folder,), checkpoint_s=60.0)
    service = workplace.service
    body = study_of(uris(0, 20), uris(30, 3), epochs=1) | {"validation": uris(20, 5)}
    study = service.experiments.submit(ANONYMOUS, request_of(body)).id
    workplace.executor.run_next()
    shutil.rmtree(folder)
    workplace.computer = Computer(workplace.settings)
    workplace.executor = workplace.worker()
    workplace.work()
    found = get(service, study)
    assert (found.state, found.failure) == ("succeeded", None)
    report = StudyReport.model_validate_json(file_of(service, study, "report.json"))
    assert all(one.accuracy is not None for one in report.models)
    with service.database.reading() as connection:
        frozen = frozen_images(connection, study)
    assert frozen == {
        position: sha256(digits.png(number))
        for position, number in enumerate([*range(20), *range(20, 25), *range(30, 33)])
    }


@pytest.mark.parametrize("name", ["../secret", "a/../b", "/etc/passwd", "A", "", "a//b", ".hidden", "a" * 201, "a\n"])
def test_a_compute_process_cannot_name_what_is_no_kept_file(name: str) -> None:
    for kind in ("ask_kept", "ask_kept_uri", "keep_file", "forget_kept"):
        with pytest.raises(ValueError, match="validation error"):
            SAID.validate_json(json.dumps({"kind": kind, "name": name}))
        SAID.validate_json(json.dumps({"kind": kind, "name": "weights/mixup-3.safetensors"}))


def test_only_an_order_about_an_experiment_has_kept_files(make_settings: Callable[..., Settings]) -> None:
    answers = Answers(access=make_settings().access, folder=ComputeFolder(), blobs=lambda _: b"")
    for question in (AskKept(name="a"), AskKeptUri(name="a"), KeepFile(name="a"), ForgetKept(name="a")):
        with pytest.raises(ChannelBroken, match="no experiment"):
            answers.answer(question, Frame(b"", (b"x",)))


def test_every_stage_is_counted_in_its_shard(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace()
    study = submit_study(workplace.service, seeds=[0, 1, 2])
    stored = shards(workplace.service, study)
    assert [(one.key.wave, one.key.index, one.kind, one.start, one.stop) for one in stored] == [
        *((0, index, "stage", 0, 1) for index in range(6)),
        *((1, index, "stage", 0, 1) for index in range(3)),
        (2, 0, "stage", 0, 1),
    ]
