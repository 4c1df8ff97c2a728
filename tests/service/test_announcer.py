"""Announcements go out behind the answer; one that is lost is made again by the sweeper."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis

from auditcore_service.queue.announcer import Announcer
from auditcore_service.queue.celery_queue import CeleryQueue
from auditcore_service.settings import Settings
from auditcore_service.store.records import QueuedShard, ShardKey
from queues import ONLY_REDIS

pytestmark = pytest.mark.parametrize("queue_kind", ONLY_REDIS)


@pytest.fixture
def shard_queue(make_settings: Callable[..., Settings]) -> Iterator[CeleryQueue]:
    opened = CeleryQueue(make_settings())
    yield opened
    opened.close()


def shards(count: int, audit: str = "a") -> tuple[QueuedShard, ...]:
    return tuple(QueuedShard(ShardKey(audit, 0, index), "compute") for index in range(count))


def test_everything_handed_over_before_the_end_is_sent(shard_queue: CeleryQueue) -> None:
    announcer = Announcer(shard_queue)
    for number in range(20):
        announcer.announce(shards(3, f"audit-{number}"))
    announcer.start()
    announcer.stop()
    assert shard_queue.depth("gpu") == 60


def test_handing_over_does_not_wait_for_a_queue_that_is_away(make_settings: Callable[..., Settings]) -> None:
    away = CeleryQueue(make_settings(redis_url="unix:///nowhere.sock"))
    announcer = Announcer(away)
    announcer.start()
    announcer.announce(shards(1))
    announcer.announce(shards(1))
    announcer.stop()  # what could not be sent is left to the sweeper
    away.close()


def test_a_connection_that_was_cut_is_opened_again(shard_queue: CeleryQueue, redis_url: str) -> None:
    shard_queue.announce(shards(2))
    with redis.Redis.from_url(redis_url) as admin:
        mine = admin.client_id()
        for client in admin.client_list():
            if int(client["id"]) != mine:
                admin.client_kill_filter(_id=client["id"])
        time.sleep(0.1)
        shard_queue.announce(shards(2))
        assert admin.llen("gpu") == 4
