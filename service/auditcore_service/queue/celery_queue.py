"""The queue of a service with Redis: Celery, carrying nothing but tickets.

The database is the truth. The sweeper sends as many tickets as are missing, and one too many finds nothing to claim.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

import redis
from celery import Celery
from kombu.exceptions import BatchPublishError, OperationalError
from kombu.messaging import Producer

from auditcore_service.queue.shard_queue import QUEUES, QueueUnavailable
from auditcore_service.settings import TASKS_PER_CHILD, QueueName, Settings
from auditcore_service.store.records import QueuedShard

TASK = "auditcore.claim_shard"
TASK_OF_EARLIER_RELEASE = "auditcore.run_shard"
"""Its messages name a shard. They may still lie in Redis after an upgrade, and count as tickets."""

INSPECT_TASK = "auditcore.inspect_model"

CONNECT_TIMEOUT_S = 2.0
"""A gateway that cannot reach the queue still answers: the audit is stored, and announced later."""


BATCH = 1000
"""Most messages in one round trip to Redis; 0.6 MB."""

_UNREACHABLE = (OperationalError, BatchPublishError, redis.RedisError, OSError)

PAUSE_S = 5.0
"""How long a queue that did not answer is not asked again. Without this pause, each request would wait for it."""


def celery_options(settings: Settings) -> dict[str, Any]:
    """Every option that keeps shards from being lost, computed twice or never ended."""
    transport = {
        "visibility_timeout": settings.visibility_timeout_s,
        # how often a worker looks for messages of dead workers: interval times throttle; the default takes 100 s
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
    }
    return {
        "broker_url": _broker_url(settings.redis),
        "broker_transport_options": transport,
        "visibility_timeout": settings.visibility_timeout_s,
        "result_backend_transport_options": {"visibility_timeout": settings.visibility_timeout_s},
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "task_retry_on_worker_lost": True,
        # a backstop: a worker itself ends what takes too long, with a reason
        "task_time_limit": settings.ticket_limit_s,
        "task_default_queue": "gpu",
        "task_create_missing_queues": True,
        "worker_prefetch_multiplier": 1,
        # a worker that computes must not hold tickets that an idle one could use
        "worker_disable_prefetch": True,
        # CUDA cannot be used in a forked child
        "worker_pool_start_method": "spawn",
        # a spawned child imports torch before it answers: 4 s warm, much longer from a cold disk
        "worker_proc_alive_timeout": 120,
        "worker_max_tasks_per_child": TASKS_PER_CHILD,
        # before a cold shutdown (SIGQUIT, or Ctrl-C twice) as well, the shard may be handed back
        "worker_soft_shutdown_timeout": settings.drain_s,
        # Redis carries nothing but tickets, so losing it is no reason to stop what is computed
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_enable_remote_control": True,
    }


def build_celery(settings: Settings) -> Celery:
    """The sending side: knows the queue, not the tasks."""
    app = Celery("auditcore", set_as_current=False)
    app.conf.update(celery_options(settings))
    return app


@final
@dataclass(frozen=True)
class _Message:
    """A message for a worker."""

    task: str
    arguments: tuple[str, ...]
    queue: QueueName


@final
class CeleryQueue:
    """Sends tickets, and names of models to inspect, to workers."""

    def __init__(self, settings: Settings) -> None:
        self._app = build_celery(settings)
        # a worker waits on its socket for as long as there is nothing to do; one that announces must not
        self._app.conf.broker_transport_options |= {"socket_timeout": CONNECT_TIMEOUT_S}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._producer: Producer | None = None
        self._silent_until = 0.0
        self._redis = redis.Redis.from_url(
            settings.redis, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=CONNECT_TIMEOUT_S
        )

    def announce(self, shards: Sequence[QueuedShard]) -> None:
        """Send one ticket for each shard, after the transaction that queued them has been committed.

        Raises:
            QueueUnavailable: Redis does not answer, or did not a moment ago.
        """
        self._transmit([_ticket(QUEUES[shard.kind]) for shard in shards])

    def send_tickets(self, queue: QueueName, count: int) -> None:
        """Tell workers `count` times that something waits in a queue.

        Raises:
            QueueUnavailable: Redis does not answer, or did not a moment ago.
        """
        self._transmit([_ticket(queue)] * count)

    def announce_inspection(self, digest: str) -> None:
        """Tell a worker which inspection is wanted.

        Raises:
            QueueUnavailable: Redis does not answer, or did not a moment ago.
        """
        self._transmit([_Message(INSPECT_TASK, (digest,), "gpu")])

    def _transmit(self, messages: Sequence[_Message]) -> None:
        self._await_turn()
        with self._sending:
            try:
                self._send(messages)
                self._silent_until = 0.0
            except _UNREACHABLE as error:
                self._silent_until = time.monotonic() + PAUSE_S
                msg = f"the queue does not answer: {error}"
                raise QueueUnavailable(msg) from error

    def _send(self, messages: Sequence[_Message]) -> None:
        """One round trip over a connection that is kept: opening one costs 10 times as much as a message."""
        try:
            if self._producer is None:
                connection = self._app.connection_for_write()
                connection.ensure_connection(max_retries=1, timeout=CONNECT_TIMEOUT_S)
                self._producer = self._app.amqp.Producer(connection)
            with self._producer.batch(max_size=BATCH):
                for message in messages:
                    # 180 us each; Celery's message put together by hand would take 40
                    self._app.send_task(
                        message.task,
                        args=message.arguments,
                        queue=message.queue,
                        producer=self._producer,
                        ignore_result=True,
                        retry=False,
                    )
        except BaseException:
            self._drop_connection()
            raise

    def _drop_connection(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(*_UNREACHABLE):
                producer.connection.release()

    def depth(self, queue: QueueName) -> int:
        """Messages waiting in a queue, not counting those a worker holds.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        try:
            depth = int(self._redis.llen(queue))
        except redis.RedisError as error:
            msg = f"the queue does not answer: {error}"
            raise QueueUnavailable(msg) from error
        self._silent_until = 0.0
        return depth

    def check(self) -> None:
        """Prove that Redis answers.

        Raises:
            QueueUnavailable: It does not.
        """
        try:
            self._redis.ping()
        except redis.RedisError as error:
            msg = f"the queue does not answer: {error}"
            raise QueueUnavailable(msg) from error

    def _await_turn(self) -> None:
        """While the queue is silent, let one caller find out whether it is back, and the others not wait for it."""
        with self._lock:
            now = time.monotonic()
            if now < self._silent_until:
                msg = "the queue did not answer a moment ago"
                raise QueueUnavailable(msg)
            if self._silent_until:
                self._silent_until = now + PAUSE_S

    def close(self) -> None:
        """Close all connections."""
        with self._sending:
            self._drop_connection()
        self._app.close()
        self._redis.close()


def _ticket(queue: QueueName) -> _Message:
    return _Message(TASK, (queue,), queue)


def _broker_url(redis_url: str) -> str:
    """redis-py says `unix:///path`, kombu says `redis+socket:///path`."""
    return f"redis+socket://{redis_url.removeprefix('unix://')}" if redis_url.startswith("unix://") else redis_url
