"""Who may ask a server that is down, and who waits."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import pytest

from auditcore.sources.servers.breaker import Breaker, Passage, Stopped

PAUSE_S = 0.1
NEVER = threading.Event()


@pytest.fixture
def opened() -> Breaker:
    breaker = Breaker(failures=3, pause_s=PAUSE_S)
    for _ in range(3):
        breaker.fail(breaker.enter(9, NEVER))
    return breaker


def waiting(future: Future[Passage]) -> bool:
    try:
        future.result(PAUSE_S / 2)
    except NotYet:
        return True
    return False


def test_failures_that_are_not_in_a_row_open_nothing() -> None:
    breaker = Breaker(failures=3, pause_s=60)
    for _ in range(5):
        breaker.fail(breaker.enter(9, NEVER))
        breaker.fail(breaker.enter(9, NEVER))
        breaker.succeed()
    assert breaker.enter(9, NEVER) == Passage(sent=True)


def test_after_the_pause_one_request_is_the_probe_and_the_others_wait(opened: Breaker) -> None:
    begun = time.monotonic()
    assert opened.enter(9, NEVER) == Passage(sent=True, probe=True)
    assert time.monotonic() - begun >= 0.9 * PAUSE_S
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(opened.enter, 9, NEVER) for _ in range(3)]
        time.sleep(2 * PAUSE_S)
        assert all(waiting(one) for one in others)
        opened.succeed()
        assert [one.result(1) for one in others] == [Passage(sent=True)] * 3


def test_probes_of_others_that_fail_count_as_tries_of_those_that_wait(opened: Breaker) -> None:
    with ThreadPoolExecutor(2) as pool:
        probe = opened.enter(9, NEVER)
        patient, impatient = (pool.submit(opened.enter, patience, NEVER) for patience in (2, 1))
        assert waiting(patient)
        assert waiting(impatient)
        opened.fail(probe)
        assert impatient.result(1) == Passage(sent=False, failed=1)
        opened.succeed()
        assert patient.result(1) == Passage(sent=True, failed=1)


def test_a_failed_probe_makes_all_wait_again(opened: Breaker) -> None:
    opened.fail(opened.enter(9, NEVER))
    begun = time.monotonic()
    assert opened.enter(9, NEVER).probe
    assert time.monotonic() - begun >= 0.9 * PAUSE_S


def test_a_probe_without_a_result_is_replaced_by_another(opened: Breaker) -> None:
    probe = opened.enter(9, NEVER)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(opened.enter, 9, NEVER)
        assert waiting(other)
        opened.release(probe)
        assert other.result(1) == Passage(sent=True, probe=True)


def test_failures_of_requests_that_were_under_way_do_not_make_it_longer() -> None:
    breaker = Breaker(failures=1, pause_s=PAUSE_S)
    under_way = [breaker.enter(9, NEVER) for _ in range(2)]
    breaker.fail(under_way[0])
    begun = time.monotonic()
    time.sleep(PAUSE_S / 2)
    breaker.fail(under_way[1])
    assert breaker.enter(9, NEVER).probe
    assert time.monotonic() - begun < 1.4 * PAUSE_S


def test_a_cancelled_request_does_not_wait() -> None:
    breaker = Breaker(failures=1, pause_s=60)
    breaker.fail(breaker.enter(9, NEVER))
    stopped = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(breaker.enter, 9, stopped)
        assert waiting(other)
        stopped.set()
        breaker.wake()
        with pytest.raises(Stopped):
            other.result(1)
