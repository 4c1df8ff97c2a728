"""What the service asks of a queue, on both queues, and how a worker takes from the database."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import update

from auditcore_service.queue.polling import WINDOW, Polling, WantedInspection
from auditcore_service.queue.shard_queue import QueueUnavailable, ShardQueue, open_queue
from auditcore_service.settings import Settings
from auditcore_service.store.audits import insert_audit
from auditcore_service.store.database import Database
from auditcore_service.store.inspections import answer_inspection, ask_for_inspection
from auditcore_service.store.records import NewShard, QueuedShard, ShardKey
from auditcore_service.store.shards import cancel_audit, claim_shard, complete_shard, count_waiting
from auditcore_service.store.tables import SHARDS
from queues import QUEUE_KINDS

DIGEST = "sha256:" + "1" * 64


def submit(database: Database, audit_id: str, *, shards: int, now: float = 1000.0) -> tuple[QueuedShard, ...]:
    kinds = [*(("compute", index) for index in range(shards)), ("assemble", 0)]
    new = [
        NewShard(wave=int(kind == "assemble"), index=index, kind=kind, start=index, stop=index + 1, weight=1.0)  # type: ignore[arg-type]
        for kind, index in kinds
    ]
    with database.writing("default") as connection:
        _, queued = insert_audit(
            connection, audit_id=audit_id, request="{}", plan="{}", images=shards, shards=new, now=now
        )
    return queued


def claim(database: Database, key: ShardKey) -> bool:
    with database.writing("default") as connection:
        return claim_shard(connection, key, now=1000.0, lease_s=30.0) is not None


def complete(database: Database, key: ShardKey) -> tuple[QueuedShard, ...]:
    with database.writing("default") as connection:
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


def polling(database: Database, *, max_attempts: int = 3, seed: int = 0) -> Polling:
    return Polling(
        database,
        max_attempts=max_attempts,
        clock=lambda: 1000.0,
        random_numbers=random.Random(seed),  # noqa: S311 - spreads workers, keeps no secret
    )


def test_shards_are_taken_in_the_order_in_which_they_were_queued(database: Database) -> None:
    later, sooner = submit(database, "b", shards=2, now=1001.0), submit(database, "c", shards=1, now=1000.0)
    worker = polling(database)
    taken = []
    while isinstance(key := worker.take(), ShardKey):
        assert claim(database, key)
        worker.claimed(successfully=True)
        taken.append(key)
    assert taken == [shard.key for shard in (*sooner, *later)]


def test_a_shard_that_ends_an_audit_comes_first(database: Database) -> None:
    submit(database, "a", shards=3, now=999.0)
    (only,) = submit(database, "b", shards=1, now=1000.0)
    claim(database, only.key)
    (last,) = complete(database, only.key)
    assert polling(database).take() == last.key == ShardKey("b", 1, 0)


def test_what_no_worker_can_claim_is_not_taken(database: Database) -> None:
    submit(database, "cancelled", shards=1)
    submit(database, "worn", shards=1)
    with database.writing("default") as connection:
        cancel_audit(connection, "cancelled", now=1000.0)
        connection.execute(update(SHARDS).where(SHARDS.c.audit_id == "worn").values(attempt=2))
    assert polling(database, max_attempts=2).take() is None
    assert polling(database).take() == ShardKey("worn", 0, 0)


def test_workers_that_lose_a_race_spread_over_what_waits(database: Database) -> None:
    """Without spreading, each of 8 workers wants the oldest shard, and all but one find it taken every time."""
    submit(database, "a", shards=WINDOW)
    workers = [polling(database, seed=seed) for seed in range(8)]
    lost = 0
    for _ in range(WINDOW // 8):
        wanted = [worker.take() for worker in workers]
        for worker, key in zip(workers, wanted, strict=True):
            assert isinstance(key, ShardKey)
            got = claim(database, key)
            worker.claimed(successfully=got)
            lost += not got
    with database.reading("default") as connection:
        left = count_waiting(connection, kinds=["compute"])
    assert left == lost
    assert lost < WINDOW // 2
    assert {worker._window for worker in workers} > {1}


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
    assert isinstance(worker.take(), WantedInspection)
    assert isinstance(worker.take(), ShardKey)
    assert isinstance(worker.take(), WantedInspection)
    assert isinstance(worker.take(), ShardKey)


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
