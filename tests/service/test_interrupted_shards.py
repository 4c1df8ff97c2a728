"""What becomes of a shard whose worker stops, whose process dies, or whose database is away while it is computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import EndOfProcess
from auditcore.errors import UnreachableResource
from auditcore.orchestration import audit_run
from auditcore.orchestration.sharding import ShardRange
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.records import Audit, Shard
from auditcore_service.worker import execution
from auditcore_service.worker.computer import AuditTask, Cause, ComputedShard, ComputerDied
from auditcore_service.worker.execution import Executor
from auditcore_service.worker.in_process_computer import InProcessComputer
from auditcore_service.worker.stopping import StopRequest
from small_model import SMALL_MODEL
from worker_process import shards, store_images

PLAN = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}
GROUP = 16
"""Images that the engine computes together."""


class Computer:
    """The real one, which returns early between groups, and is ended by some images or by the model.

    Attributes:
        early: Whether it looks for `enough` between groups.
        killers: Images that end the process, as long as they are not left out.
        cause: How the process ends.
        loading: Whether the model ends it instead.
        runs: The ranges that were asked for.
        closed: Whether it was closed.
    """

    def __init__(self, settings: Settings) -> None:
        self.real = InProcessComputer(settings)
        self.early = False
        self.killers: frozenset[int] = frozenset()
        self.cause: Cause = "killed"
        self.loading = False
        self.runs: list[tuple[int, int]] = []
        self.closed = threading.Event()
        self.before: Callable[[Callable[[float], None]], None] = lambda _progress: None

    def run_shard(
        self,
        audit: AuditTask,
        part: ShardRange,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
        left_out: Mapping[int, EndOfProcess] | None = None,
    ) -> ComputedShard:
        self.runs.append((part.start, part.stop))
        if self.loading:
            msg = "killed by signal 9"
            raise ComputerDied(msg, cause=self.cause, loading=True)
        progress(0.0)
        self.before(progress)
        if self.killers & set(range(part.start, part.stop)) - set(left_out or {}):
            msg = "killed by signal 9"
            raise ComputerDied(msg, cause=self.cause, loading=False)
        return self.real.run_shard(
            audit, part, progress=progress, enough=enough if self.early else lambda: False, left_out=left_out
        )

    def stop_at(self, audit: AuditTask) -> int | None:
        return self.real.stop_at(audit)

    def assemble(self, *arguments: Any) -> AuditReport:
        return self.real.assemble(*arguments)

    def inspect(self, *arguments: Any, **options: Any) -> Any:
        return self.real.inspect(*arguments, **options)

    def close(self) -> None:
        self.closed.set()


class Workplace:
    """A service, and one worker in this process."""

    def __init__(self, settings: Settings, stop_file: Path) -> None:
        self.settings = settings
        self.service = Service.of(settings)
        self.service.database.migrate()
        self.computer = Computer(settings)
        self.stop_file = stop_file
        self.executor = self.worker()

    def worker(self) -> Executor:
        return Executor(
            self.settings,
            database=self.service.database,
            blobs=self.service.blobs,
            queue=self.service.queue,
            computer=self.computer,
            stopping=StopRequest(self.stop_file),
        )

    def submit(self, images: int) -> str:
        batch = {"kind": "batch", "digest": store_images(self.service, images)}
        body = {"model": SMALL_MODEL, "images": batch, "plan": PLAN}
        return self.service.audits.submit(ANONYMOUS, AuditRequest.model_validate(body)).id

    def shards(self, audit_id: str) -> tuple[Shard, ...]:
        return shards(self.service, audit_id)

    def audit(self, audit_id: str) -> Audit:
        return self.service.audits.get(ANONYMOUS, audit_id)

    def work(self, audit_id: str) -> Audit:
        deadline = time.monotonic() + 120
        while self.audit(audit_id).state in {"queued", "running", "finalizing"}:
            assert time.monotonic() < deadline
            self.executor.run_next()
        return self.audit(audit_id)

    def report(self, audit_id: str) -> AuditReport:
        return AuditReport.model_validate_json(self.service.audits.report(ANONYMOUS, audit_id))


@pytest.fixture
def make_workplace(make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Callable[..., Workplace]]:
    opened: list[Workplace] = []

    def make(**overrides: object) -> Workplace:
        opened.append(Workplace(make_settings(heartbeat_s=0.05, **overrides), tmp_path / "stop"))
        return opened[-1]

    yield make
    for workplace in opened:
        workplace.service.database.close()


def test_a_shard_that_is_computed_in_parts_gives_the_same_scores(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace(shard_images=64, checkpoint_s=1e-6)
    whole = workplace.submit(2 * GROUP + 3)
    workplace.work(whole)
    workplace.computer.early = True
    parted = workplace.submit(2 * GROUP + 3)
    workplace.work(parted)
    assert [(one.start, one.stop) for one in workplace.shards(parted)][:3] == [(0, 16), (16, 32), (32, 35)]
    reports = [workplace.report(audit_id) for audit_id in (whole, parted)]
    assert reports[0].model_dump_json(include={"results", "images", "conditions"}) == reports[1].model_dump_json(
        include={"results", "images", "conditions"}
    )
    # one claim, however many parts
    assert [report.manifest.attempts for report in reports] == [1, 1]


def test_a_long_shard_makes_room_for_other_audits(
    make_workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "STAY_S", 0.0)
    workplace = make_workplace(shard_images=64, checkpoint_s=1e-6)
    workplace.computer.early = True
    long, short = workplace.submit(2 * GROUP), workplace.submit(2)
    for _ in range(2):
        workplace.executor.run_next()
    assert workplace.shards(short)[0].state == "done"
    assert [shard.state for shard in workplace.shards(long)] == ["done", "queued", "pending"]


def test_a_worker_that_stops_stores_what_is_done_and_hands_the_rest_back(
    make_workplace: Callable[..., Workplace],
) -> None:
    workplace = make_workplace(shard_images=64)
    workplace.computer.early = True
    audit_id = workplace.submit(GROUP + 2)
    workplace.computer.before = lambda _progress: workplace.stop_file.touch()
    assert workplace.executor.run_next()
    done, rest, _ = workplace.shards(audit_id)
    assert (done.state, done.stop) == ("done", GROUP)
    assert (rest.state, rest.start, rest.not_before, rest.faults, rest.losses) == ("queued", GROUP, None, 0, 0)
    assert not workplace.executor.run_next()
    workplace.stop_file.unlink()
    workplace.computer.before = lambda _progress: None
    workplace.executor = workplace.worker()
    assert workplace.work(audit_id).state == "succeeded"
    assert workplace.computer.runs == [(0, 18), (16, 18)]


def test_a_worker_that_cannot_stop_in_time_hands_its_shard_back_at_once(
    make_workplace: Callable[..., Workplace],
) -> None:
    workplace = make_workplace(drain_s=0.2)
    audit_id = workplace.submit(2)

    def hang(progress: Callable[[float], None]) -> None:
        workplace.stop_file.touch()
        assert workplace.computer.closed.wait(20)
        # free for others while this process still computes
        assert workplace.shards(audit_id)[0].state == "queued"
        progress(0.5)

    workplace.computer.before = hang
    workplace.executor.run_next()
    (shard, _) = workplace.shards(audit_id)
    assert (shard.state, shard.attempt, shard.faults, shard.losses, shard.not_before) == ("queued", 1, 0, 0, None)


def test_a_process_that_starts_slowly_is_not_taken_for_a_model_that_hangs(
    make_workplace: Callable[..., Workplace],
) -> None:
    """What computes keeps the limit from when it is ready; here it is not for three times the limit."""
    workplace = make_workplace(shard_limit_s=0.3, max_attempts=1)
    workplace.computer.before = lambda _progress: time.sleep(0.9)
    assert workplace.work(workplace.submit(1)).state == "succeeded"


def test_a_shard_that_takes_too_long_is_ended_with_a_reason(
    make_workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditcore_service.settings.COMPUTE_START_S", 0.0)
    workplace = make_workplace(shard_limit_s=0.3, max_attempts=1)
    audit_id = workplace.submit(1)

    def hang(progress: Callable[[float], None]) -> None:
        assert workplace.computer.closed.wait(20)
        progress(0.5)

    workplace.computer.before = hang
    workplace.executor.run_next()
    (shard, _) = workplace.shards(audit_id)
    assert (shard.state, shard.left_out) == ("queued", "time_limit")


@pytest.mark.parametrize(
    ("cause", "code", "words"),
    [
        ("killed", "ended_process", "without saying why"),
        ("memory", "memory_exhausted", "more memory"),
        ("time_limit", "time_limit", "took longer"),
    ],
)
def test_an_image_that_kills_is_left_out_and_the_others_are_computed(
    make_workplace: Callable[..., Workplace], cause: Cause, code: str, words: str
) -> None:
    workplace = make_workplace(shard_images=64)
    workplace.computer.killers, workplace.computer.cause = frozenset({5}), cause
    audit_id = workplace.submit(8)
    assert workplace.work(audit_id).state == "succeeded"
    report = workplace.report(audit_id)
    assert [(one.index, one.code) for one in report.images.excluded] == [(5, code)]
    assert words in report.images.excluded[0].reason
    assert report.images.used == 7
    assert [one.left_out for one in workplace.shards(audit_id) if one.left_out] == [code]


@pytest.mark.parametrize(("cause", "code"), [("killed", "model_kills_worker"), ("memory", "memory_exhausted")])
def test_a_model_that_kills_fails_the_audit_and_says_only_what_is_known(
    make_workplace: Callable[..., Workplace], cause: Cause, code: str
) -> None:
    workplace = make_workplace()
    workplace.computer.loading, workplace.computer.cause = True, cause
    failure = workplace.work(workplace.submit(2)).failure
    assert failure is not None
    assert (failure.code, failure.field) == (code, "model")
    assert ("memory" in failure.message) == (cause == "memory")
    assert len(workplace.computer.runs) == workplace.settings.max_attempts


def test_when_every_image_kills_the_audit_fails(make_workplace: Callable[..., Workplace]) -> None:
    workplace = make_workplace(shard_images=4)
    workplace.computer.killers = frozenset(range(8))
    failure = workplace.work(workplace.submit(8)).failure
    assert failure is not None
    assert failure.code == "worker_lost"
    assert "memory" not in failure.message


def test_a_database_that_is_away_when_a_shard_ends_loses_no_result(
    make_workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = make_workplace(lease_s=4.0)
    audit_id = workplace.submit(2)
    real, refused = Database.writing, 0
    away = threading.Event()

    def writing(self: Database, *arguments: Any) -> Any:
        nonlocal refused
        if away.is_set():
            refused += 1
            if refused > 12:
                away.clear()
            statement = "UPDATE"
            raise OperationalError(statement, {}, ConnectionRefusedError())
        return real(self, *arguments)

    monkeypatch.setattr(Database, "writing", writing)
    workplace.computer.before = lambda _progress: away.set()
    workplace.executor.run_next()
    (shard, _) = workplace.shards(audit_id)
    assert refused > 12
    assert (shard.state, shard.attempt) == ("done", 1)
    workplace.computer.before = lambda _progress: None
    assert workplace.work(audit_id).state == "succeeded"
    assert len(workplace.computer.runs) == 1


def test_a_claim_that_finds_no_database_ends_without_a_shard(
    make_workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = make_workplace()
    audit_id = workplace.submit(1)

    def away(*_arguments: Any, **_options: Any) -> None:
        statement = "SELECT"
        raise OperationalError(statement, {}, ConnectionRefusedError())

    with monkeypatch.context() as patch:
        patch.setattr(execution, "claim_next", away)
        assert not workplace.executor.run_next()
    assert workplace.work(audit_id).state == "succeeded"
    assert workplace.shards(audit_id)[0].attempt == 1


def test_what_the_request_names_may_come_back(
    make_workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = audit_run.run_shard, 0

    def sometimes(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls <= 5:
            msg = "the server does not answer"
            raise UnreachableResource(msg, field="model", passing=True)
        return real(*arguments)

    monkeypatch.setattr(audit_run, "run_shard", sometimes)
    workplace = make_workplace()
    assert workplace.work(workplace.submit(1)).state == "succeeded"
    calls = -(10**6)
    impatient = make_workplace(patience_s=0.05)
    failure = impatient.work(impatient.submit(1)).failure
    assert failure is not None
    assert (failure.code, failure.field) == ("unreachable_resource", "model")
