"""What the service asks of a queue, on both queues, and how a worker takes from the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import update

from auditcore_service.queue.polling import Polling, Ticket, WantedInspection
from auditcore_service.queue.shard_queue import QUEUES, QueueUnavailable, ShardQueue, open_queue
from auditcore_service.settings import Settings
from auditcore_service.store.audits import insert_audit
from auditcore_service.store.database import Database
from auditcore_service.store.fair_order import TRAINING_WAIT_S, claim_next
from auditcore_service.store.inspections import answer_inspection, ask_for_inspection
from auditcore_service.store.records import NewShard, QueuedShard, Shard, ShardKey
from auditcore_service.store.shards import cancel_audit, claim_shard, complete_part, complete_shard, hand_back_shard
from auditcore_service.store.tables import SHARDS
from auditcore_service.store.transitions import JobKind, ShardKind
from queues import QUEUE_KINDS

DIGEST = "sha256:" + "1" * 64


def submit(
    database: Database, audit_id: str, *, shards: int, now: float = 1000.0, tenant: str = "default"
) -> tuple[QueuedShard, ...]:
    kinds = [*(("compute", index) for index in range(shards)), ("assemble", 0)]
    new = [
        NewShard(wave=int(kind == "assemble"), index=index, kind=kind, start=index, stop=index + 1, weight=1.0)  # type: ignore[arg-type]
        for kind, index in kinds
    ]
    with database.writing(tenant) as connection:
        _, queued = insert_audit(
            connection, audit_id=audit_id, request="{}", plan="{}", images=shards, shards=new, now=now
        )
    return queued


def claim(database: Database, key: ShardKey) -> bool:
    with database.writing("default") as connection:
        return claim_shard(connection, key, now=1000.0, lease_s=30.0) is not None


def complete(database: Database, key: ShardKey) -> tuple[QueuedShard, ...]:
    with database.writing() as connection:
        return complete_shard(connection, key, attempt=1, result_digest=DIGEST, now=1000.0).opened


def want(database: Database, digest: str, *, now: float = 1000.0) -> None:
    with database.writing("default") as connection:
        ask_for_inspection(connection, digest, request="{}", reference="{}", now=now)


@pytest.fixture
def opened(make_settings: Callable[..., Settings], database: Database) -> Iterator[ShardQueue]:
    queue = open_queue(make_settings(), database)
    yield queue
    queue.close()


@pytest.mark.parametrize("queue_kind", QUEUE_KINDS)
def test_what_is_announced_waits_in_the_queue_of_its_kind(opened: ShardQueue, database: Database) -> None:
    opened.check()
    assert (opened.depth("gpu"), opened.depth("control")) == (0, 0)
    queued = submit(database, "a", shards=2)
    opened.announce(queued)
    assert (opened.depth("gpu"), opened.depth("control")) == (2, 0)
    for shard in queued:
        claim(database, shard.key)
        opened.announce(complete(database, shard.key))
    assert opened.depth("control") == 1


@pytest.mark.parametrize("queue_kind", QUEUE_KINDS)
def test_a_queue_that_is_away_says_so(make_settings: Callable[..., Settings], queue_kind: str) -> None:
    database = Database("postgresql://nobody@127.0.0.1:9/nothing")
    settings = make_settings(redis_url="unix:///nowhere.sock")
    queue = open_queue(settings, database)
    try:
        with pytest.raises(QueueUnavailable, match="does not answer"):
            queue.check()
        with pytest.raises(QueueUnavailable, match="does not answer"):
            queue.depth("gpu")
    finally:
        queue.close()
        database.close()
    assert settings.queue == queue_kind


def polling(database: Database) -> Polling:
    return Polling(database, clock=lambda: 1000.0)


class Workers:
    """Workers that claim in the fair order, each at its own moment."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = 2000.0

    def claim(self, kinds: Sequence[ShardKind] = tuple(QUEUES), *, stay_with: str | None = None) -> Shard | None:
        self.now += 1.0
        with self.database.writing() as connection:
            return claim_next(connection, kinds=kinds, now=self.now, lease_s=30.0, stay_with=stay_with)

    def audits(self, count: int) -> list[str]:
        """Audits of the next shards that one worker claims and completes."""
        served = []
        for _ in range(count):
            shard = self.claim()
            assert shard is not None
            served.append(shard.key.audit_id)
            complete(self.database, shard.key)
        return served


def test_a_small_audit_goes_on_beside_a_huge_one(database: Database) -> None:
    submit(database, "huge", shards=40, now=999.0)
    workers = Workers(database)
    assert workers.audits(5) == ["huge"] * 5
    submit(database, "small", shards=2)
    submit(database, "other", shards=2)
    # every third turn each, and one more for the shard that ends an audit
    assert workers.audits(7) == ["other", "small", "huge", "other", "other", "small", "small"]


def test_a_new_tenant_does_not_wait_for_a_busy_one(database: Database) -> None:
    for number in range(10):
        submit(database, f"busy-{number}", shards=4, tenant="busy")
    workers = Workers(database)
    workers.audits(3)
    submit(database, "new", shards=5, tenant="new")
    served = workers.audits(8)
    assert served[0::2] == ["new"] * 4
    assert all(audit_id.startswith("busy") for audit_id in served[1::2])


def test_many_small_audits_do_not_starve_a_tenant_with_a_large_one(database: Database) -> None:
    """The last turn of a tenant is remembered although the audit that had it has ended."""
    submit(database, "large", shards=20, tenant="large")
    workers = Workers(database)
    served = []
    for number in range(6):
        submit(database, f"small-{number}", shards=1, tenant="small")
        served += workers.audits(2)
    assert served.count("large") >= 4


def test_workers_spread_over_tenants_and_audits(database: Database) -> None:
    for tenant, audit_id in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        submit(database, audit_id, shards=10, tenant=tenant)
    workers = Workers(database)
    running = [shard.key.audit_id for shard in (workers.claim() for _ in range(8)) if shard is not None]
    assert {audit_id: running.count(audit_id) for audit_id in ("a1", "a2", "b1")} == {"a1": 2, "a2": 2, "b1": 4}


def test_who_has_fewer_running_shards_comes_before_who_was_served_longer_ago(database: Database) -> None:
    submit(database, "a1", shards=10, tenant="a")
    workers = Workers(database)
    for _ in range(3):
        workers.claim()
    submit(database, "b1", shards=10, tenant="b")
    # those of the first tenant take long, those of the second end at once
    assert workers.audits(4) == ["b1"] * 4
    submit(database, "b2", shards=10, tenant="b")
    workers.claim()
    assert workers.audits(2) == ["b1", "b1"]


def test_a_shard_that_ends_an_audit_comes_first(database: Database) -> None:
    submit(database, "a", shards=3, now=999.0)
    (only,) = submit(database, "b", shards=1, now=1000.0)
    claim(database, only.key)
    (last,) = complete(database, only.key)
    workers = Workers(database)
    shard = workers.claim(stay_with="a")
    assert shard is not None
    assert shard.key == last.key == ShardKey("b", 1, 0)
    assert workers.claim(kinds=["assemble"]) is None


def test_a_worker_may_stay_with_its_audit(database: Database) -> None:
    submit(database, "a", shards=2)
    submit(database, "b", shards=2)
    workers = Workers(database)
    served = [workers.claim(stay_with="b") for _ in range(3)]
    assert [None if one is None else one.key.audit_id for one in served] == ["b", "b", "a"]


def test_what_no_worker_can_claim_is_not_taken(database: Database) -> None:
    submit(database, "cancelled", shards=1)
    submit(database, "waiting", shards=1)
    with database.writing("default") as connection:
        cancel_audit(connection, "cancelled", now=1000.0)
        connection.execute(update(SHARDS).where(SHARDS.c.audit_id == "waiting").values(not_before=time.time() + 200))
    assert polling(database).take() is None
    with database.writing("default") as connection:
        connection.execute(update(SHARDS).where(SHARDS.c.audit_id == "waiting").values(not_before=2100.0))
    assert Workers(database).claim() is None
    with database.writing("default") as connection:
        connection.execute(update(SHARDS).where(SHARDS.c.audit_id == "waiting").values(not_before=1999.0))
    assert polling(database).take() == Ticket()
    shard = Workers(database).claim()
    assert shard is not None
    assert shard.key == ShardKey("waiting", 0, 0)


def test_workers_that_race_get_different_shards(database: Database) -> None:
    submit(database, "a", shards=12)
    got: list[ShardKey] = []

    def work() -> None:
        for _ in range(3):
            with database.writing() as connection:
                shard = claim_next(connection, kinds=("compute",), now=2000.0, lease_s=30.0)
            if shard is not None:
                got.append(shard.key)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [ShardKey("a", 0, index) for index in range(12)]


MINUTE_S = 60.0
STEPS = 10_000


def submit_training(
    database: Database, training_id: str, *, tenant: str = "default", kind: JobKind = "training"
) -> None:
    first, last = ("train", "finish") if kind == "training" else ("stage", "stage")
    shards = [
        NewShard(wave=0, index=0, kind=first, start=0, stop=STEPS if kind == "training" else 1, weight=1.0),
        NewShard(wave=1, index=0, kind=last, start=0, stop=1, weight=0.1),
    ]
    with database.writing(tenant) as connection:
        insert_audit(
            connection, audit_id=training_id, kind=kind, request="{}", plan="{}", images=1, shards=shards, now=1000.0
        )


class Minutes:
    """One worker and its clock: a shard of an audit takes a minute, and so does a part of a training or a stage."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = 1000.0
        self.trained_at: float | None = None

    def work(self, minutes: int) -> list[str]:
        """Whose turn each minute is."""
        return [self._one_minute() for _ in range(minutes)]

    def _one_minute(self) -> str:
        rested = self.trained_at is None or self.now - self.trained_at >= TRAINING_WAIT_S
        with self.database.writing() as connection:
            shard = claim_next(
                connection, kinds=tuple(QUEUES), now=self.now, lease_s=90.0, may_put_training_first=rested
            )
        assert shard is not None
        self.now += MINUTE_S
        with self.database.writing() as connection:
            mine: dict[str, Any] = {"attempt": shard.attempt, "result_digest": DIGEST, "now": self.now}
            if shard.kind == "train":
                complete_part(connection, shard.key, stop=shard.start + 1, lease_s=90.0, **mine)
            if shard.kind in {"train", "stage"}:
                hand_back_shard(connection, shard.key, attempt=shard.attempt, now=self.now)
                self.trained_at = self.now
            else:
                complete_shard(connection, shard.key, **mine)
        return shard.key.audit_id


@pytest.mark.parametrize("kind", ["training", "experiment"])
def test_a_training_has_a_turn_where_audits_always_wait(database: Database, kind: JobKind) -> None:
    submit(database, "audit", shards=100)
    submit_training(database, "training", kind=kind)
    turns = Minutes(database).work(50)
    assert [minute for minute, one in enumerate(turns) if one == "training"] == [10, 21, 32, 43]


def test_many_trainings_leave_audits_their_time_and_each_has_its_turn(database: Database) -> None:
    """A tenant that is served all the time for its audits does not lose the turn of its training."""
    submit(database, "audit", shards=200, tenant="busy")
    submit_training(database, "a", tenant="busy")
    for number in range(3):
        submit_training(database, f"b-{number}", tenant="other")
    turns = Minutes(database).work(99)
    trained = [one for one in turns if one != "audit"]
    assert len(trained) == 99 // 11
    assert sorted(trained[:4]) == ["a", "b-0", "b-1", "b-2"]
    # the one that has waited longest, so the same order again
    assert trained[4:8] == trained[:4]


def test_a_worker_that_serves_only_audits_claims_no_training(database: Database) -> None:
    submit_training(database, "training")
    with database.writing() as connection:
        kinds: tuple[ShardKind, ...] = ("measure", "compute", "assemble")
        long_after = 1000.0 + 10 * TRAINING_WAIT_S
        assert not claim_next(connection, kinds=kinds, now=long_after, lease_s=1.0, may_put_training_first=True)


def test_an_inspection_is_taken_once_for_each_time_it_is_asked_for(database: Database) -> None:
    want(database, "second", now=1001.0)
    want(database, "first", now=1000.0)
    worker, other = polling(database), polling(database)
    assert worker.take() == WantedInspection("first")
    assert other.take() == WantedInspection("second")
    assert worker.take() is None
    want(database, "first")
    assert other.take() == WantedInspection("first")


def test_an_inspection_that_is_answered_is_not_taken(database: Database) -> None:
    want(database, "known")
    with database.writing("default") as connection:
        answer_inspection(connection, "known", answer="{}")
    assert polling(database).take() is None


def test_inspections_and_shards_take_turns(database: Database) -> None:
    submit(database, "a", shards=1)
    for digest in ("first", "second", "third"):
        want(database, digest)
    worker = polling(database)
    taken = [type(worker.take()) for _ in range(4)]
    assert taken == [WantedInspection, Ticket, WantedInspection, Ticket]


def test_many_workers_want_one_inspection_and_one_gets_it(database: Database) -> None:
    want(database, "only")
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(polling(database).take())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(WantedInspection("only")) == 1
    assert got.count(None) == 7
