"""Clocks of hosts that differ, and that jump: by libfaketime, which changes what a process reads of the wall clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.conftest import Play, running
from chaos.deployment import ScaledDeployment

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="install libfaketime (Debian: faketime)")

SKEW_S = 45
"""Fifteen leases; an audit failed at this as `worker_lost` when leases were compared with the clocks of workers."""


def fake_time(offset: Path) -> tuple[str, ...]:
    """What starts a program so that its wall clock is off by what a file says; its monotonic clock is right."""
    return (
        "env",
        f"LD_PRELOAD={LIBRARIES[0]}",
        f"FAKETIME_TIMESTAMP_FILE={offset}",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        "DONT_FAKE_MONOTONIC=1",
        # read again at least every second
        "FAKETIME_CACHE_DURATION=1",
    )


def offset_file(folder: Path, name: str) -> Path:
    path = folder / f"offset-of-{name}"
    path.write_text("+0s\n")
    return path


@pytest.fixture(scope="module")
def with_clocks(folder: Path, weights: Path) -> Iterator[ScaledDeployment]:
    place = folder / "clocks"
    place.mkdir()
    names = ("gateway-1", "worker-0", "worker-1")
    deployment = ScaledDeployment(
        place, weights=weights, prefixes={name: fake_time(offset_file(place, name)) for name in names}
    )
    yield from running(deployment)


def set_clock(deployment: ScaledDeployment, name: str, seconds: int) -> None:
    (deployment.folder / f"offset-of-{name}").write_text(f"{seconds:+d}s\n")


@pytest.mark.parametrize("seconds", [SKEW_S, -SKEW_S], ids=["ahead", "behind"])
def test_a_worker_whose_clock_is_wrong(with_clocks: ScaledDeployment, play: Play, seconds: int) -> None:
    with play(f"clock of one worker {seconds:+d} s, of the other right", with_clocks) as scene:
        scene.nothing_repeated = True
        set_clock(with_clocks, "worker-0", seconds)
        time.sleep(1.5)
        try:
            for kind in ("slow", "waves", "tiny", "slow"):
                scene.submit(kind)
            time.sleep(12)
        finally:
            set_clock(with_clocks, "worker-0", 0)


def test_a_gateway_whose_clock_is_wrong(with_clocks: ScaledDeployment, play: Play) -> None:
    """Its sweeper must not take shards from workers that work."""
    with play(f"clock of a gateway {SKEW_S:+d} s", with_clocks) as scene:
        scene.nothing_repeated = True
        set_clock(with_clocks, "gateway-1", SKEW_S)
        time.sleep(1.5)
        try:
            scene.submit("slow")
            scene.submit("waves", gateway=1)
            time.sleep(12)
        finally:
            set_clock(with_clocks, "gateway-1", 0)


def test_clocks_that_jump(with_clocks: ScaledDeployment, play: Play) -> None:
    with play("clocks of both workers jump by an hour, forth and back, within a shard", with_clocks) as scene:
        scene.nothing_repeated = True
        audit_id = scene.submit("slow")
        scene.submit("waves")
        scene.wait_running(audit_id, above=0.05)
        for seconds in (3600, -3600, 0):
            for name in ("worker-0", "worker-1"):
                set_clock(with_clocks, name, seconds)
            time.sleep(2.5)
