"""Messages are lost, come twice, late, or were never ours; and the database is away while many wait."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing

from sqlalchemy import text

from auditcore_service.queue.celery_queue import TASK, CeleryQueue
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.records import QueuedShard, ShardKey
from chaos.conftest import Play
from chaos.deployment import Deployment, ScaledDeployment, flush
from chaos.oracle import states_of
from chaos.scene import Scene

WAITING = 37
STEADY = 15
"""Newer audits that wait or run at any time, so that the queue is never empty."""

OVERTAKEN = 30
"""Most newer audits that may start before the last one that waited: those that were under way at the outage, and those
that start until the service looks for what it has lost."""


def test_flushed_queue(deployment: Deployment, play: Play) -> None:
    with play("FLUSHALL, three times", deployment) as scene:
        scene.nothing_repeated = True
        scene.submit("slow")
        scene.submit("waves")
        for _ in range(3):
            scene.submit("tiny")
            flush(deployment)
            time.sleep(1)


def test_duplicate_and_late_messages(deployment: Deployment, play: Play) -> None:
    with play("every message twenty times, and again at the end", deployment) as scene:
        scene.nothing_repeated = True
        audits = [scene.submit("slow"), scene.submit("waves"), scene.submit("tiny")]
        keys = [QueuedShard(ShardKey(one, wave, 0), "compute") for one in audits for wave in (0, 1, 2)]
        _announce(deployment, keys * 20)
        scene.wait_running(audits[0])
        deadline = time.monotonic() + 60
        while not _all_ended(deployment, audits) and time.monotonic() < deadline:
            time.sleep(0.2)
        _announce(deployment, keys)
        scene.submit("tiny")


def test_foreign_messages(deployment: Deployment, play: Play) -> None:
    with play("messages of unknown audits, of other tasks, and of bytes that are none", deployment) as scene:
        unknown = [
            QueuedShard(ShardKey("no-audit", 0, 0), "compute"),
            QueuedShard(ShardKey("6b3b7f2e-0000-4000-8000-000000000000", 9, 9), "assemble"),
        ]
        _announce(deployment, unknown)
        with closing(_queue(deployment)) as queue:
            app = queue._app
            for name, arguments in (
                ("foreign.task", ()),
                (TASK, ()),
                (TASK, ("a", "b", "c", "d")),
                (TASK, ([], {}, 1)),
            ):
                app.send_task(name, args=arguments, queue="gpu", ignore_result=True)
        with closing(deployment.redis) as redis:
            redis.lpush("gpu", json.dumps({"body": "bm8=", "headers": {}, "properties": {}}))
        scene.submit("quick")
        scene.submit("waves")


def test_database_away_under_steady_load(scaled: ScaledDeployment, play: Play) -> None:
    with play(f"PostgreSQL away for 6 s while {WAITING} audits wait, under steady load", scaled) as scene:
        scene.end_s = 240
        busy = scene.submit("slow")
        waiting = [scene.submit("tiny") for _ in range(WAITING)]
        # a worker that is still starting would sleep through the fault
        scene.wait_running(busy)
        scaled.postgres.process.kill()
        time.sleep(6)
        scaled.start_again()
        newer = _load_until_started(scene, scaled, waiting, seconds=60)
        with closing(Database(scaled.database_url)) as database, database.reading() as connection:
            starts = {
                row.id: row.started_at or float("inf")
                for row in connection.execute(text("SELECT id, started_at FROM audits"))
            }
        last = max(starts[one] for one in waiting)
        overtaken = sum(starts[one] < last for one in newer)
        scene.notes.append(f"{overtaken} of {len(newer)} newer audits started before the last that waited")
        assert overtaken <= OVERTAKEN, scene.notes[-1]


def _load_until_started(scene: Scene, scaled: ScaledDeployment, waiting: list[str], *, seconds: float) -> list[str]:
    """Keep some newer audits waiting at all times, until the older ones have started; returns the newer ones."""
    newer: list[str] = []
    over = threading.Event()

    def submit() -> None:
        while not over.wait(0.05):
            with closing(Database(scaled.database_url)) as database, database.reading() as connection:
                states = states_of(connection, newer) if newer else {}
            if sum(state in {"queued", "running", "finalizing"} for state in states.values()) < STEADY:
                accepted = scene.try_submit("tiny", gateway=1)
                newer.extend([accepted] if accepted else [])

    thread = threading.Thread(target=submit)
    thread.start()
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            with closing(Database(scaled.database_url)) as database, database.reading() as connection:
                if "queued" not in states_of(connection, waiting).values():
                    break
            time.sleep(0.5)
    finally:
        over.set()
        thread.join()
    return newer


def _queue(deployment: Deployment) -> CeleryQueue:
    with closing(deployment.redis) as redis:
        options = redis.connection_pool.connection_kwargs
    url = f"unix://{options['path']}" if "path" in options else f"redis://127.0.0.1:{options['port']}/0"
    return CeleryQueue(Settings.model_validate({"redis_url": url}))


def _announce(deployment: Deployment, shards: list[QueuedShard]) -> None:
    with closing(_queue(deployment)) as queue:
        queue.announce(shards)


def _all_ended(deployment: Deployment, audits: list[str]) -> bool:
    with closing(Database(deployment.database_url)) as database, database.reading() as connection:
        return set(states_of(connection, audits).values()) <= {"succeeded", "failed", "cancelled"}
