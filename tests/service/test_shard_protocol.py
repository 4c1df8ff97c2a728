from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from auditcore_service.store.audits import find_audit, insert_audit
from auditcore_service.store.database import Database
from auditcore_service.store.events import events_after
from auditcore_service.store.records import Audit, Failure, NewShard, QueuedShard, Shard, ShardKey, Step, Waiting
from auditcore_service.store.shards import (
    MOST_LEFT_OUT,
    abandon_shard,
    beat_shard,
    cancel_audit,
    claim_shard,
    complete_part,
    complete_shard,
    fail_audit,
    hand_back_shard,
    left_out_images,
    list_shards,
    postpone_shard,
    record_death,
    release_shard,
    running_leases,
    skip_rest,
    take_over_silent,
)
from auditcore_service.store.transitions import (
    AUDIT_TRANSITIONS,
    SHARD_TRANSITIONS,
    TERMINAL,
    sources,
)
from auditcore_service.waits import AT_ONCE, LONGEST_WAIT_S, Backoff

DIGEST = "sha256:" + "1" * 64
PART = "sha256:" + "2" * 64
BROKEN = Failure("internal_error", "it broke")
LOST = Failure("worker_lost", "it vanished")


class Play:
    """The protocol, one transaction a call, with a clock that stands still."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = 1000.0

    def submit(
        self, *, measure: int = 0, compute: int = 2, audit_id: str = "a", each: int = 1
    ) -> tuple[QueuedShard, ...]:
        kinds: list[tuple[str, int]] = [("measure", measure), ("compute", compute), ("assemble", 1)]
        waves = [(kind, count) for kind, count in kinds if count]
        shards = [
            NewShard(
                wave=wave,
                index=index,
                kind=kind,  # type: ignore[arg-type]
                start=index * each,
                stop=(index + 1) * each,
                weight=1.0,
                model=index % 2,
            )
            for wave, (kind, count) in enumerate(waves)
            for index in range(count)
        ]
        with self.database.writing("default") as connection:
            _, queued = insert_audit(
                connection, audit_id=audit_id, request="{}", plan="{}", images=compute, shards=shards, now=self.now
            )
        return queued

    def claim(self, wave: int = 0, index: int = 0) -> Shard | None:
        with self.database.writing("default") as connection:
            return claim_shard(connection, ShardKey("a", wave, index), now=self.now, lease_s=30.0)

    def complete(self, wave: int = 0, index: int = 0, *, attempt: int = 1, verdict: str | None = None) -> Step:
        with self.database.writing("default") as connection:
            return complete_shard(
                connection,
                ShardKey("a", wave, index),
                attempt=attempt,
                result_digest=DIGEST,
                now=self.now,
                verdict=verdict,
            )

    def finish(self, wave: int, indices: Sequence[int]) -> tuple[QueuedShard, ...]:
        opened: tuple[QueuedShard, ...] = ()
        for index in indices:
            assert self.claim(wave, index)
            opened += self.complete(wave, index).opened
        return opened

    def beat(self, *, attempt: int = 1, progress: float = 0.5) -> bool:
        with self.database.writing("default") as connection:
            return beat_shard(
                connection, ShardKey("a", 0, 0), attempt=attempt, progress=progress, now=self.now, lease_s=30.0
            )

    def release(self, *, attempt: int, max_attempts: int = 3, backoff: Backoff = AT_ONCE) -> Step:
        with self.database.writing("default") as connection:
            return release_shard(
                connection,
                ShardKey("a", 0, 0),
                attempt=attempt,
                error="boom",
                failure=BROKEN,
                now=self.now,
                max_attempts=max_attempts,
                backoff=backoff,
            )

    def postpone(
        self,
        *,
        attempt: int,
        index: int = 0,
        backoff: Backoff = AT_ONCE,
        patience_s: float | None = None,
        failure: Failure | None = None,
    ) -> Step:
        with self.database.writing("default") as connection:
            return postpone_shard(
                connection,
                ShardKey("a", 0, index),
                attempt=attempt,
                waiting_for="disk",
                error="full",
                now=self.now,
                backoff=backoff,
                patience_s=patience_s,
                failure=failure,
            )

    def hand_back(self, *, attempt: int) -> Step:
        with self.database.writing("default") as connection:
            return hand_back_shard(connection, ShardKey("a", 0, 0), attempt=attempt, now=self.now)

    def part(self, stop: int, *, attempt: int = 1) -> Step:
        with self.database.writing("default") as connection:
            return complete_part(
                connection,
                ShardKey("a", 0, 0),
                attempt=attempt,
                stop=stop,
                result_digest=PART,
                now=self.now,
                lease_s=30.0,
            )

    def die(self, index: int = 0, *, max_attempts: int = 3) -> Step:
        claimed = self.claim(0, index)
        assert claimed is not None
        with self.database.writing("default") as connection:
            return record_death(
                connection,
                claimed.key,
                attempt=claimed.attempt,
                error="killed",
                code="ended_process",
                failure=LOST,
                now=self.now,
                max_attempts=max_attempts,
                backoff=AT_ONCE,
            )

    def shards(self) -> tuple[Shard, ...]:
        with self.database.reading("default") as connection:
            return list_shards(connection, "a")

    def fail(self, index: int = 0, *, attempt: int = 1) -> Step:
        with self.database.writing("default") as connection:
            return fail_audit(connection, ShardKey("a", 0, index), attempt=attempt, failure=BROKEN, now=self.now)

    def abandon(self, index: int = 0, *, attempt: int = 1) -> Step:
        with self.database.writing("default") as connection:
            return abandon_shard(connection, ShardKey("a", 0, index), attempt=attempt, now=self.now)

    def skip(self, start: int) -> Step:
        with self.database.writing("default") as connection:
            return skip_rest(connection, "a", wave=0, start=start, now=self.now)

    def cancel(self) -> bool:
        with self.database.writing("default") as connection:
            return cancel_audit(connection, "a", now=self.now)

    def take_over(self, *, max_losses: int = 3) -> list[Step]:
        with self.database.reading("default") as connection:
            silent = [lease for lease in running_leases(connection) if lease.until < self.now]
        steps = []
        for lease in silent:
            with self.database.writing("default") as connection:
                steps.append(
                    take_over_silent(
                        connection, lease, now=self.now, failure=LOST, max_losses=max_losses, backoff=AT_ONCE
                    )
                )
        return steps

    @property
    def audit(self) -> Audit:
        with self.database.reading("default") as connection:
            audit = find_audit(connection, "a")
        assert audit is not None
        return audit

    @property
    def states(self) -> list[str]:
        with self.database.reading("default") as connection:
            return [shard.state for shard in list_shards(connection, "a")]


@pytest.fixture
def play(database: Database) -> Play:
    return Play(database)


def keys(shards: Sequence[QueuedShard]) -> list[tuple[int, int, str]]:
    return [(shard.key.wave, shard.key.index, shard.kind) for shard in shards]


def test_submit_queues_the_first_wave_and_keeps_the_others(play: Play) -> None:
    assert keys(play.submit(measure=2, compute=2)) == [(0, 0, "measure"), (0, 1, "measure")]
    assert play.states == ["queued", "queued", "pending", "pending", "pending"]
    assert play.audit.state == "queued"


def test_a_shard_knows_its_model(play: Play) -> None:
    play.submit(compute=2)
    first, second = play.claim(0, 0), play.claim(0, 1)
    assert first is not None
    assert second is not None
    assert (first.model, second.model) == (0, 1)
    with play.database.reading("default") as connection:
        assert [shard.model for shard in list_shards(connection, "a")] == [0, 1, 0]


def test_two_waves_open_exactly_once_and_end_in_success(play: Play) -> None:
    play.submit(measure=2, compute=2)
    assert keys(play.finish(0, [1, 0])) == [(1, 0, "compute"), (1, 1, "compute")]
    assert play.audit.state == "running"
    assert keys(play.finish(1, [0, 1])) == [(2, 0, "assemble")]
    assert play.audit.state == "finalizing"
    assert play.claim(2, 0)
    assert play.complete(2, 0, verdict="fail") == Step(applied=True)
    audit = play.audit
    assert (audit.state, audit.verdict, audit.report_digest) == ("succeeded", "fail", DIGEST)
    assert audit.progress.fraction == 1.0
    assert audit.finished_at == play.now


def test_a_second_delivery_cannot_be_claimed(play: Play) -> None:
    play.submit()
    first = play.claim()
    assert first is not None
    assert first.attempt == 1
    assert play.claim() is None
    play.complete()
    assert play.claim() is None


def test_a_late_completion_changes_nothing(play: Play) -> None:
    play.submit()
    play.claim()
    play.now += 31
    assert play.claim() is None  # only the sweeper takes over
    play.take_over()
    second = play.claim()
    assert second is not None
    assert second.attempt == 2
    assert play.complete(attempt=1) == Step(applied=False)
    assert play.states[0] == "running"
    assert play.complete(attempt=2).applied
    assert play.complete(attempt=2) == Step(applied=False)


def test_completing_twice_does_not_open_the_next_wave_twice(play: Play) -> None:
    play.submit(compute=1)
    play.claim()
    assert len(play.complete().opened) == 1
    assert play.complete().opened == ()


def test_heartbeat_keeps_the_lease_and_stores_progress(play: Play) -> None:
    play.submit(compute=1)
    play.claim()
    play.now += 20
    assert play.beat(progress=0.5)
    play.now += 20
    assert play.take_over() == []
    assert play.claim() is None
    assert 0.2 < play.audit.progress.fraction < 0.3


def test_heartbeat_of_a_lost_attempt_stops_the_worker(play: Play) -> None:
    play.submit()
    play.claim()
    play.now += 31
    play.take_over()
    play.claim()
    assert not play.beat(attempt=1)
    assert play.beat(attempt=2)


def test_silent_shards_are_taken_over_until_too_many_workers_are_lost(play: Play) -> None:
    play.submit()
    for attempt in (1, 2):
        claimed = play.claim()
        assert claimed is not None
        assert claimed.attempt == attempt
        play.now += 31
        steps = play.take_over(max_losses=2)
        assert [step.applied for step in steps] == [True]
    audit = play.audit
    assert audit.state == "failed"
    assert audit.failure == LOST
    assert play.states == ["failed", "cancelled", "cancelled"]
    assert play.claim(0, 1) is None


def test_an_unexpected_error_is_tried_again_and_then_fails_the_audit(play: Play) -> None:
    play.submit()
    play.claim()
    assert keys(play.release(attempt=1, max_attempts=2).opened) == [(0, 0, "compute")]
    assert play.states[0] == "queued"
    play.claim()
    assert play.release(attempt=2, max_attempts=2).opened == ()
    assert play.audit.state == "failed"
    assert play.audit.failure == BROKEN


def test_messages_that_no_database_takes_are_stored_readably(play: Play) -> None:
    play.submit()
    play.claim()
    key, strange = ShardKey("a", 0, 0), "null \0 and half a pair \ud800"
    failure = Failure("internal_error", strange)
    for attempt in (1, 2):
        with play.database.writing("default") as connection:
            assert release_shard(
                connection,
                key,
                attempt=attempt,
                error=strange,
                failure=failure,
                now=play.now,
                max_attempts=2,
                backoff=AT_ONCE,
            ).applied
        play.claim()
    assert play.audit.failure == Failure("internal_error", "null \N{REPLACEMENT CHARACTER} and half a pair ?")


def test_bad_input_fails_at_once_and_stops_the_rest(play: Play) -> None:
    play.submit(compute=3)
    play.claim(0, 0)
    play.claim(0, 1)
    assert play.fail(0).applied
    assert play.audit.state == "failed"
    assert play.states == ["failed", "running", "cancelled", "cancelled"]
    assert play.complete(0, 1).applied
    assert play.audit.state == "failed"


def test_cancel_before_any_worker_is_immediate(play: Play) -> None:
    play.submit()
    assert play.cancel()
    assert play.audit.state == "cancelled"
    assert set(play.states) == {"cancelled"}
    assert not play.cancel()
    assert play.claim() is None


def test_cancel_waits_for_running_shards(play: Play) -> None:
    play.submit(compute=3)
    play.claim(0, 0)
    play.claim(0, 1)
    assert play.cancel()
    assert play.audit.state == "cancelling"
    assert not play.beat()
    assert play.abandon(0).applied
    assert play.audit.state == "cancelling"
    assert play.complete(0, 1).opened == ()
    assert play.audit.state == "cancelled"


def test_what_a_stop_rule_needs_no_more_is_skipped_and_the_next_wave_opens_once(play: Play) -> None:
    play.submit(compute=5)
    play.finish(0, [0, 1])
    play.claim(0, 2)
    step = play.skip(2)
    assert step.applied
    assert keys(step.opened) == [(1, 0, "assemble")]
    assert play.states == ["done", "done", "skipped", "skipped", "skipped", "queued"]
    assert play.audit.state == "finalizing"
    assert play.audit.progress.done == 5
    # the worker that was busy with one finds out, and nothing it does counts
    assert not play.complete(0, 2).applied
    assert not play.abandon(2).applied
    assert not play.fail(2).applied
    assert play.claim(0, 3) is None
    assert play.skip(2) == Step(applied=False)
    assert play.finish(1, [0]) == ()
    assert play.audit.state == "succeeded"
    assert play.audit.progress.fraction == 1


def test_nothing_is_skipped_while_an_image_before_is_missing(play: Play) -> None:
    play.submit(compute=4)
    play.finish(0, [1])
    assert play.skip(2) == Step(applied=False)
    assert play.states[:4] == ["queued", "done", "queued", "queued"]


def test_a_busy_worker_hears_that_its_shard_is_skipped(play: Play) -> None:
    play.submit(compute=2)
    play.claim(0, 0)
    assert play.beat()
    play.skip(0)
    assert not play.beat()
    play.now += 31
    assert play.take_over() == []


def test_a_wave_that_ends_by_itself_is_not_opened_again_by_a_stop_rule(play: Play) -> None:
    play.submit(compute=2)
    assert keys(play.finish(0, [0, 1])) == [(1, 0, "assemble")]
    assert play.skip(1) == Step(applied=False)
    play.finish(1, [0])
    assert play.skip(1) == Step(applied=False)
    assert play.audit.state == "succeeded"


def test_a_cancelled_audit_skips_nothing(play: Play) -> None:
    play.submit(compute=3)
    play.finish(0, [0])
    play.cancel()
    assert play.skip(1) == Step(applied=False)
    assert "skipped" not in play.states


def test_workers_that_decide_and_complete_at_once_open_one_wave(play: Play) -> None:
    count = 10
    play.submit(compute=count)
    play.finish(0, [0])
    opened: list[QueuedShard] = []
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            if play.claim(0, index):
                opened.extend(play.complete(0, index).opened)
            opened.extend(play.skip(1).opened)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(1, count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert keys(opened) == [(1, 0, "assemble")]
    assert set(play.states[:count]) <= {"done", "skipped"}


def test_cancelling_ends_even_if_the_worker_dies(play: Play) -> None:
    play.submit()
    play.claim()
    play.cancel()
    play.now += 31
    assert [step.applied for step in play.take_over()] == [True]
    assert play.audit.state == "cancelled"


def test_abandoning_a_shard_that_another_worker_took_does_not_cancel_the_audit(play: Play) -> None:
    play.submit()
    play.claim()
    play.now += 31
    play.take_over()
    assert not play.abandon(attempt=1).applied
    assert play.audit.state == "running"
    assert play.states[0] == "queued"


def test_events_are_complete_and_in_order(play: Play) -> None:
    play.submit(compute=1)
    play.finish(0, [0])
    play.claim(1, 0)
    play.complete(1, 0, verdict="pass")
    with play.database.reading("default") as connection:
        events = events_after(connection, "a", after=0)
        rest = events_after(connection, "a", after=events[0].id)
    states = [event.data.split('"state": "')[1].split('"')[0] for event in events]
    assert states == ["queued", "running", "finalizing", "finalizing", "succeeded"]
    assert [event.id for event in events] == sorted(event.id for event in events)
    assert rest == events[1:]


def test_many_workers_complete_at_once_and_one_wave_opens(play: Play) -> None:
    count = 12
    play.submit(compute=count)
    opened: list[QueuedShard] = []
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            assert play.claim(0, index)
            opened.extend(play.complete(0, index).opened)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert keys(opened) == [(1, 0, "assemble")]
    assert play.audit.progress.done == count


def test_many_workers_want_one_shard_and_one_gets_it(play: Play) -> None:
    play.submit(compute=1)
    got: list[Shard | None] = []
    threads = [threading.Thread(target=lambda: got.append(play.claim())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(shard is not None for shard in got) == 1
    assert len(got) == 8


def test_transition_tables_are_closed_and_end() -> None:
    assert {"succeeded", "failed", "cancelled"} == TERMINAL
    for table in (AUDIT_TRANSITIONS, SHARD_TRANSITIONS):
        assert set().union(*table.values()) <= set(table)
    assert sources("cancelled") == {"queued", "running", "finalizing", "cancelling"}
    assert sources("succeeded") == {"finalizing"}


def test_what_comes_back_waits_longer_each_time_and_cannot_be_claimed_before(play: Play) -> None:
    play.submit(compute=1)
    waits = []
    for attempt in (1, 2, 3):
        assert play.claim()
        step = play.postpone(attempt=attempt, backoff=Backoff(4.0, 100.0))
        assert step == Step(applied=True)
        assert play.claim() is None
        (shard, _) = play.shards()
        assert shard.not_before is not None
        waits.append(shard.not_before - play.now)
        assert play.audit.waiting == Waiting("disk", shard.not_before)
        play.now = shard.not_before
    assert 2 <= waits[0] <= 4 <= waits[1] <= 8 <= waits[2] <= 16
    assert play.claim()
    assert play.audit.waiting is None


def test_a_clock_that_is_set_back_makes_nothing_wait_for_long(play: Play) -> None:
    play.submit(compute=1)
    play.claim()
    play.postpone(attempt=1, backoff=Backoff(100.0, 100.0))
    play.now -= LONGEST_WAIT_S / 2
    assert play.claim() is None
    play.now -= LONGEST_WAIT_S
    assert play.claim()


def test_postponements_and_stops_never_end_an_audit_and_faults_do(play: Play) -> None:
    play.submit(compute=1)
    for attempt in range(1, 41):
        assert play.claim()
        assert (play.postpone(attempt=attempt) if attempt % 2 else play.hand_back(attempt=attempt)).applied
    assert play.audit.state == "running"
    for attempt, state in ((41, "running"), (42, "running"), (43, "failed")):
        assert play.claim()
        play.release(attempt=attempt)
        assert play.audit.state == state


def test_what_the_request_names_may_be_away_for_a_while_only(play: Play) -> None:
    play.submit(compute=1)
    away = Failure("server_failing", "it does not answer", "model")
    for attempt, later, state in ((1, 0, "running"), (2, 599, "running"), (3, 2, "failed")):
        play.now += later
        play.claim()
        play.postpone(attempt=attempt, patience_s=600.0, failure=away)
        assert play.audit.state == state
    assert play.audit.failure == away


def test_losses_are_forgiven_by_progress(play: Play) -> None:
    play.submit(compute=1, each=8)
    for attempt in (1, 2, 3, 4):
        assert play.claim()
        assert play.part(2 * attempt - 1, attempt=attempt).applied
        play.now += 31
        assert play.take_over(max_losses=2)[0].applied
    assert play.audit.state == "running"
    play.claim()
    play.now += 31
    play.take_over(max_losses=2)
    assert play.audit.state == "failed"


def test_a_part_that_is_done_becomes_a_shard_of_its_own(play: Play) -> None:
    play.submit(compute=2, each=4)
    play.claim(0, 0)
    play.claim(0, 1)
    play.complete(0, 1)
    assert play.part(3).applied
    first, rest, second, assemble = play.shards()
    assert [(one.start, one.stop, one.state, one.attempt) for one in (first, rest, second)] == [
        (0, 3, "done", 0),
        (3, 4, "running", 1),
        (4, 8, "done", 1),
    ]
    assert (first.key.index, rest.key.index, first.result_digest, first.model) == (2, 0, PART, rest.model)
    assert (play.audit.progress.done, play.audit.progress.total) == (2, 4)
    assert play.audit.progress.fraction == pytest.approx((1 + 3 / 4) / 3, abs=1e-4)
    assert assemble.state == "pending"
    assert play.complete(0, 0).opened[0].kind == "assemble"


def test_a_part_of_a_shard_that_was_taken_over_does_not_count(play: Play) -> None:
    play.submit(compute=1, each=4)
    play.claim()
    play.now += 31
    play.take_over()
    assert not play.part(2).applied
    assert len(play.shards()) == 2


def test_a_part_that_is_stored_twice_counts_once(play: Play) -> None:
    """As when the database goes away after the commit, and before its answer."""
    play.submit(compute=1, each=4)
    play.claim()
    assert play.part(2).applied
    assert play.part(2).applied
    assert [(one.start, one.stop) for one in play.shards()] == [(0, 2), (2, 4), (0, 4)]


def test_a_part_of_a_cancelled_audit_ends_it(play: Play) -> None:
    play.submit(compute=1, each=4)
    play.claim()
    play.cancel()
    assert not play.part(2).applied
    assert play.audit.state == "cancelled"


def test_an_image_that_kills_is_found_by_halving_and_left_out(play: Play) -> None:
    """Image 5 of 8 ends every process that computes it; the others are computed, and nothing else is left out."""
    play.submit(compute=1, each=8)
    deaths = 0
    while shard := next((one for one in play.shards() if one.state == "queued" and one.kind == "compute"), None):
        if shard.start <= 5 < shard.stop and shard.left_out is None:
            assert play.die(shard.key.index).applied
            deaths += 1
        else:
            claimed = play.claim(0, shard.key.index)
            assert claimed is not None
            play.complete(0, shard.key.index, attempt=claimed.attempt)
    parts = [one for one in play.shards() if one.kind == "compute"]
    assert [(one.start, one.stop, one.left_out) for one in parts] == [
        (0, 4, None),
        (4, 5, None),
        (5, 6, "ended_process"),
        (6, 8, None),
    ]
    # twice the whole, once each half, and three times the image
    assert deaths == 2 + 2 + 3
    with play.database.reading() as connection:
        assert left_out_images(connection, "a", 0) == (("compute", 5, "ended_process"),)
    assert play.audit.state == "finalizing"


def test_one_death_divides_nothing(play: Play) -> None:
    play.submit(compute=1, each=8)
    play.die()
    assert [one.stop - one.start for one in play.shards()] == [8, 8]
    play.die()
    assert [one.stop - one.start for one in play.shards()][:2] == [4, 4]


def test_when_many_images_kill_the_audit_fails(play: Play) -> None:
    play.submit(compute=5, each=1)
    for index in range(MOST_LEFT_OUT):
        for _ in range(3):
            play.die(index)
        assert play.audit.state == "running"
    for _ in range(3):
        play.die(MOST_LEFT_OUT)
    assert play.audit.failure == LOST


def test_what_still_kills_when_it_is_left_out_fails_the_audit(play: Play) -> None:
    play.submit(compute=1, each=1)
    for _ in range(3):
        play.die()
    assert play.shards()[0].left_out == "ended_process"
    play.die()
    assert play.audit.failure == LOST
