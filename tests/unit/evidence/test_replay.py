"""Two reports, compared."""

from __future__ import annotations

import json
from typing import Any

import pytest

import made_up_audits
from auditcore.contracts.canonical_json import canonical_json
from auditcore.contracts.policy import Condition
from auditcore.evidence.replay import TOLERANCE, compare_replay
from auditcore.report.serialize import report_bytes

VALUES = [0.2 + 0.001 * index for index in range(9)]


def report(values: list[float] = VALUES) -> dict[str, Any]:
    row = made_up_audits.row("gradient", values)
    condition = Condition(check="deletion", explainer="gradient", metric="srg", at_least=0.05)
    shard = made_up_audits.shard(None, dict.fromkeys(range(9), (1,)), row)
    made = made_up_audits.report(shard, policy=(condition,))
    document: dict[str, Any] = json.loads(report_bytes(made))
    return document


def places(original: dict[str, Any], replay: dict[str, Any], tolerance: float = TOLERANCE) -> set[str]:
    found = compare_replay(canonical_json(original), canonical_json(replay), tolerance=tolerance)
    assert found.reproduced == (not found.differences)
    return {one.where for one in found.differences}


def test_a_report_is_its_own_replay_whenever_it_ran() -> None:
    original, replay = report(), report()
    replay["audit_id"] = "b"
    replay["manifest"] |= {"started_at": "2026-11-27T10:00:00.000Z", "attempts": 9, "shards": 3}
    replay["cost"] |= {"seconds": 99.0, "peak_memory_bytes": 5}
    replay["conditions"][0]["message"] = "rounded otherwise"
    found = compare_replay(canonical_json(original), canonical_json(replay))
    assert (found.original, found.replay, found.reproduced) == ("a", "b", True)
    assert found.circumstances == ()


def test_numbers_within_the_tolerance_are_the_same() -> None:
    near = report([value + 5e-5 for value in VALUES])
    assert places(report(), near) == set()
    assert {"results[0].mean", "results[0].per_image[8]"} <= places(report(), near, 1e-6)


def test_every_other_difference_is_listed_with_both_values() -> None:
    original, replay = report(), report()
    replay["results"][0]["per_image"][3] = None
    replay["verdict"] = "fail"
    replay["plan"]["seed"] = 4
    replay["notes"] = ["another"]
    found = compare_replay(canonical_json(original), canonical_json(replay))
    assert {one.where: (one.original, one.replay) for one in found.differences} == {
        "results[0].per_image[3]": (0.203, None),
        "verdict": ("pass", "fail"),
        "plan.seed": (3, 4),
        "notes[0]": (None, "another"),
    }


@pytest.mark.parametrize("original", [True, False])
def test_true_is_not_1(original: bool) -> None:  # noqa: FBT001 - a value of a report
    first, second = report(), report()
    first["results"][0]["higher_is_better"], second["results"][0]["higher_is_better"] = original, not original
    assert places(first, second, 1.0) == {"results[0].higher_is_better"}


def test_circumstances_explain_and_are_no_difference() -> None:
    original, replay = report(), report()
    replay["manifest"]["auditcore_version"] = "9"
    replay["manifest"]["environment"]["torch"] = "9"
    replay["manifest"]["micro_batches"] = [8]
    replay["cost"]["device"] = "cuda:0"
    found = compare_replay(canonical_json(original), canonical_json(replay))
    assert found.reproduced
    assert {one.where for one in found.circumstances} == {
        "manifest.auditcore_version",
        "manifest.environment.torch",
        "manifest.micro_batches[0]",
        "cost.device",
    }


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(ValueError, match="schema version"):
        compare_replay(b"{}", canonical_json(report()))
