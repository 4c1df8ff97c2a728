"""What a watched micro-batch reports, on a CPU with a stand-in for CUDA's debug mode."""

from __future__ import annotations

import warnings

import pytest
import torch

from auditcore.checks.micro_batches import MicroBatches
from auditcore.explainers import gradient
from gpu import samples, syncs
from gpu.context import Context

CPU = torch.device("cpu")


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Debug modes that were set, the last one in force."""
    found: list[object] = [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: found[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", found.append)
    return found


def waits(modes: list[object]) -> None:
    """As torch on CUDA does when a value is read."""
    if modes[-1] == "error":
        raise RuntimeError(syncs.SYNCHRONIZED)
    if modes[-1] == "warn":
        warnings.warn(syncs.SYNCHRONIZED, stacklevel=1)


def test_only_the_work_of_micro_batches_is_watched(modes: list[object]) -> None:
    seen: list[object] = []
    waited: list[str] = []
    with syncs.watching("warn", lambda: waited.append("once")):
        waits(modes)
        MicroBatches(2).each(3, lambda _part: (seen.append(modes[-1]), waits(modes)), tick=lambda: waits(modes))
    assert seen == ["warn", "warn"]
    assert waited == ["once", "once"]
    assert modes[-1] == 0
    with pytest.raises(RuntimeError, match="synchronizing"), syncs.watching("error", lambda: None):
        MicroBatches(2).each(1, lambda _part: waits(modes))
    assert modes[-1] == 0
    # afterwards nothing is watched any more
    MicroBatches(2).each(1, lambda _part: seen.append(modes[-1]))
    assert seen[-1] == 0


def test_micro_batches_inside_of_others_leave_the_mode_on(modes: list[object]) -> None:
    seen: list[object] = []

    def outer(_part: slice) -> None:
        MicroBatches(1).each(1, lambda _part: None)
        seen.append(modes[-1])

    with syncs.watching("warn", lambda: None):
        MicroBatches(1).each(1, outer)
    assert seen == ["warn"]


@pytest.mark.parametrize("heard", [True, False], ids=["warning", "error only"])
def test_the_place_is_a_line_of_the_engine(
    modes: list[object], monkeypatch: pytest.MonkeyPatch, *, heard: bool
) -> None:
    plan = samples.plan_of(samples.EXPLAINERS[0])
    assert syncs.places_of_syncs(samples.on(CPU), plan) == {}
    zeros_like = gradient.Attribution

    def planted(*arguments: object, **options: object) -> object:
        if heard or modes[-1] == "error":
            waits(modes)
        return zeros_like(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(gradient, "Attribution", planted)
    places = syncs.places_of_syncs(samples.on(CPU), plan)
    (place,) = places
    assert place.startswith("explainers/gradient.py:")
    assert "Attribution(" in place
    assert places[place] > 1 if heard else places[place] == 1


def test_the_cpu_has_nothing_to_wait_for() -> None:
    said: list[str] = []
    assert syncs.run(Context(CPU, 1.0, tiny=True, say=said.append)) == {"skipped": "needs CUDA"}
    assert said == ["syncs: needs CUDA"]


def test_exempt_is_what_there_is() -> None:
    assert syncs.EXEMPT.keys() <= {subject for subject, _ in syncs.subjects()}
    assert syncs.verdict({}, None) == "ok"
    assert syncs.verdict({"a.py:1": 2}, None) == "WAITS at 1 places"
    assert syncs.verdict({"a.py:1": 2}, "because") == "waits, exempt: because"
