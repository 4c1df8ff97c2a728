"""When the sweeper takes over, and when clocks or the database make workers only look silent."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from auditcore_service.queue import sweeper as sweeper_module
from auditcore_service.queue.database_queue import DatabaseQueue
from auditcore_service.queue.sweeper import Sweeper
from auditcore_service.settings import Settings
from auditcore_service.store.audits import insert_audit
from auditcore_service.store.database import Database
from auditcore_service.store.database_time import database_time
from auditcore_service.store.records import NewShard, Shard, ShardKey
from auditcore_service.store.shards import beat_shard, claim_shard, get_shard

KEY = ShardKey("a", 0, 0)
LEASE_S = 30.0


class Scene:
    """One running shard, a sweeper, and the clocks of everything."""

    def __init__(self, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = database
        self.database_clock = 1000.0
        self.monotonic_clock = 50.0
        self.sweeper = Sweeper(
            settings, database=database, queue=DatabaseQueue(database), monotonic=lambda: self.monotonic_clock
        )
        monkeypatch.setattr(sweeper_module, "database_time", lambda _connection: self.database_clock)
        shards = [
            NewShard(wave=wave, index=0, kind=kind, start=0, stop=1, weight=1.0)  # type: ignore[arg-type]
            for wave, kind in enumerate(("compute", "assemble"))
        ]
        with database.writing("default") as connection:
            insert_audit(connection, audit_id="a", request="{}", plan="{}", images=1, shards=shards, now=1000.0)
            claim_shard(connection, KEY, now=self.database_clock, lease_s=LEASE_S)

    def pass_time(self, seconds: float, *, beats: bool = False) -> None:
        """Sweep every second, as time passes; a worker that lives beats as often."""
        for _ in range(int(seconds)):
            self.database_clock += 1.0
            self.monotonic_clock += 1.0
            if beats:
                self.beat()
            self.sweeper.sweep()

    def beat(self) -> None:
        with self.database.writing("default") as connection:
            beat_shard(connection, KEY, attempt=1, progress=0.5, now=self.database_clock, lease_s=LEASE_S)

    @property
    def shard(self) -> Shard:
        with self.database.reading("default") as connection:
            return get_shard(connection, KEY)


@pytest.fixture
def scene(
    make_settings: Callable[..., Settings], database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    settings = make_settings(database_url=SecretStr(database_url), lease_s=LEASE_S, sweep_s=1.0)
    return Scene(settings, database, monkeypatch)


def test_a_silent_worker_loses_its_shard_and_a_live_one_does_not(scene: Scene) -> None:
    scene.pass_time(60, beats=True)
    assert scene.shard.state == "running"
    scene.pass_time(LEASE_S - 2)
    assert scene.shard.state == "running"
    scene.pass_time(4)
    assert (scene.shard.state, scene.shard.losses, scene.shard.faults) == ("queued", 1, 0)


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_takes_nothing_from_a_live_worker_and_saves_no_dead_one(scene: Scene, jump: float) -> None:
    scene.pass_time(5, beats=True)
    scene.database_clock += jump
    scene.sweeper.sweep()
    assert scene.shard.state == "running"
    scene.pass_time(3, beats=True)
    assert scene.shard.state == "running"
    scene.database_clock += jump
    scene.pass_time(LEASE_S + 2)
    assert scene.shard.state == "queued"


@pytest.mark.parametrize("seconds", [28, 40])
def test_a_database_that_was_away_for_about_a_lease_takes_nothing_from_live_workers(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    scene.pass_time(5, beats=True)

    def away(_connection: Connection) -> None:
        refused = ConnectionRefusedError()
        statement = "SELECT"
        raise OperationalError(statement, {}, refused)

    with monkeypatch.context() as patch:
        patch.setattr(sweeper_module, "running_leases", away)
        for _ in range(seconds):
            scene.database_clock += 1.0
            scene.monotonic_clock += 1.0
            with pytest.raises(OperationalError):
                scene.sweeper.sweep()
    # the sweeper is back before the first heartbeat
    scene.pass_time(5)
    assert scene.shard.state == "running"
    scene.pass_time(5, beats=True)
    assert (scene.shard.state, scene.shard.attempt) == ("running", 1)


def test_a_sweeper_that_stood_still_takes_nothing_from_live_workers(scene: Scene) -> None:
    scene.pass_time(5, beats=True)
    scene.database_clock += 300.0
    scene.monotonic_clock += 300.0
    scene.sweeper.sweep()
    assert scene.shard.state == "running"


def test_leases_are_measured_by_the_clock_of_the_database(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose clock is 45 s slow would otherwise give leases that have run out already."""
    if not database_url.startswith("postgresql"):
        pytest.skip("SQLite has the clock of its host")
    right = time.time()
    monkeypatch.setattr(time, "time", lambda: right - 45.0)
    with database.reading() as connection:
        assert abs(database_time(connection) - right) < 20
