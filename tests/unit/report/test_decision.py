"""The decision in one sentence: what decided, with its value and what was wanted."""

from __future__ import annotations

from typing import Any

import pytest

import made_up_audits as made_up
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport, BaselineChange
from auditcore.report.decision import decision_sentence


def condition(name: str, **changes: Any) -> Condition:
    return Condition.model_validate(
        {"id": name, "check": "deletion", "explainer": "gradient", "metric": "srg"} | changes
    )


def report(values: list[float | None], *policy: Condition) -> AuditReport:
    images = {index: [1] for index in range(len(values))}
    return made_up.report(made_up.shard(None, images, made_up.row("gradient", values)), policy=policy)


STEADY: list[float | None] = [0.33 + index / 1000 for index in range(10)]
NOISY: list[float | None] = [0.0, 0.9] * 5


@pytest.mark.parametrize(
    ("values", "policy", "expected"),
    [
        (STEADY, (), "Not judged: the request names no policy."),
        (STEADY, (condition("a", at_least=0.1),), "Passed: the condition is met."),
        (STEADY, (condition("a", at_least=0.1), condition("b", at_least=0.2)), "Passed: all 2 conditions are met."),
        (
            STEADY,
            (condition("a", at_least=0.1), condition("stable", at_least=0.8, severity="warn")),
            "Passed with 1 warning: stable is 0.335, wanted at least 0.8.",
        ),
        (
            STEADY,
            (condition("a", at_least=0.5), condition("b", at_most=0.1), condition("c", at_least=0.9)),
            "Failed 3 conditions: a is 0.335, wanted at least 0.5; b is 0.335, wanted at most 0.1; and 1 more.",
        ),
        (
            STEADY,
            (condition("b", at_least=0.9, severity="warn"), condition("a", at_least=0.5)),
            "Failed 1 condition: a is 0.335, wanted at least 0.5.",
        ),
        (STEADY, (condition("a", at_least=0.5),), "Failed 1 condition: a is 0.335, wanted at least 0.5."),
        (
            [*STEADY[:1], *[None] * 9],
            (condition("a", at_least=0.1), condition("b", at_least=0.9, severity="warn")),
            "Not decided: a is 0.330, wanted at least 0.1, but over 1 of the 8 images it needs.",
        ),
        ([None] * 10, (condition("a", at_least=0.1),), "Not decided: a has no value."),
    ],
)
def test_the_sentence_names_what_decided(
    values: list[float | None], policy: tuple[Condition, ...], expected: str
) -> None:
    assert decision_sentence(report(values, *policy)) == expected


def test_an_open_condition_says_where_the_mean_may_lie() -> None:
    found = report(NOISY, condition("open", at_least=0.4))
    assert found.verdict == "inconclusive"
    low, high = found.conditions[0].ci or (0, 0)
    expected = f"Not decided: open is 0.450, wanted at least 0.4, but may lie between {low:.3f} and {high:.3f}."
    assert decision_sentence(found) == expected


def test_what_a_random_map_meets_too_is_said_not_to_count() -> None:
    found = report(STEADY, condition("a", at_least=0.1), condition("b", at_least=0.1))
    told = found.model_copy(
        update={
            "statistics": found.statistics.model_copy(update={"passed": 1, "vacuous": 1}),
            "conditions": (found.conditions[0], found.conditions[1].model_copy(update={"status": "vacuous"})),
        }
    )
    assert decision_sentence(told) == "Passed: the condition is met; 1 more does not count."


def test_without_a_condition_that_is_open_the_reason_is_told() -> None:
    found = report(STEADY, condition("a", at_least=0.1))
    told = found.model_copy(
        update={"verdict": "inconclusive", "verdict_reason": "No condition failed, but little was shown."}
    )
    assert decision_sentence(told) == "Not decided: no condition failed, but little was shown."
    earlier = told.model_copy(update={"verdict_reason": None})
    assert decision_sentence(earlier) == "Not decided: the conditions that were met show too little."


def test_a_change_since_a_baseline_is_told_as_one() -> None:
    found = report(STEADY, condition("a", at_least=0.5))
    change = BaselineChange.model_construct(change=-0.2, ci=(-0.3, -0.1))
    outcome = found.conditions[0].model_copy(
        update={"change": change, "comparison": "non_inferiority_margin", "threshold": 0.05}
    )
    told = decision_sentence(found.model_copy(update={"conditions": (outcome,)}))
    assert told == "Failed 1 condition: a changed by -0.200, wanted: is worse by at most 0.05."


def test_in_an_audit_of_several_the_model_is_named() -> None:
    shards = [
        made_up.shard(name, {i: [1] for i in range(9)}, made_up.row("gradient", [value + i / 100 for i in range(9)]))
        for name, value in (("one", 0.75), ("two", 0.25))
    ]
    told = decision_sentence(made_up.report(*shards, policy=(condition("a", at_least=0.5),)))
    assert told == "Failed 1 condition: a of two is 0.290, wanted at least 0.5."


def test_outcomes_of_one_pattern_are_told_apart_and_numbers_are_called_conditions() -> None:
    images = {index: [1] for index in range(10)}
    rows = (made_up.row("gradient", STEADY), made_up.row("grad_cam", STEADY))
    pattern = condition("all", explainer="*", at_least=0.9)
    unnamed = Condition.model_validate({"check": "deletion", "explainer": "gradient", "metric": "srg", "at_least": 0.5})
    found = made_up.report(made_up.shard(None, images, *rows), policy=(pattern,))
    failed = [one for one in found.conditions if one.status == "failed"]
    assert "all (gradient) is 0.335, wanted at least 0.9; all (" in decision_sentence(found)
    assert len(failed) == 2
    numbered = made_up.report(made_up.shard(None, images, rows[0]), policy=(unnamed,))
    assert decision_sentence(numbered).startswith("Failed 1 condition: condition ")
