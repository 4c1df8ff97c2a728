"""Advice on policies: each finding, and what gets none."""

from __future__ import annotations

from typing import Any

import pytest

import every_check
from auditcore.contracts.augmentations import Rotate
from auditcore.contracts.checks import DeletionCheck, SweepCheck
from auditcore.contracts.explainers import GradCam, Gradient, Random
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.policy_lint import lint

DELETION = {"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion", "at_least": 0.0}
SWEEP = {"check": "sweep", "explainer": "gradient", "metric": "s_pearson", "variant": "rotate", "at_least": 0.5}
RANDOMIZATION = {
    "check": "randomization", "explainer": "gradient", "metric": "randomized_similarity", "at_most": 0.5,
}  # fmt: skip
PLAN = AuditPlan(
    explainers=(Gradient(), GradCam(), Random(name="dice")),
    checks=(SweepCheck(name="stable", augmentations=(Rotate(),)), DeletionCheck(name="removal")),
)


def found(*policy: dict[str, Any], plan: AuditPlan | None = None) -> list[tuple[str, str]]:
    return [(one.code, one.field) for one in lint([Condition.model_validate(one) for one in policy], plan)]


def test_a_sound_policy_gets_no_advice() -> None:
    assert found(DELETION, SWEEP) == []
    assert found(RANDOMIZATION, SWEEP) == []
    assert found({**DELETION, "explainer": "*"}, SWEEP, {**SWEEP, "explainer": "grad_cam"}) == []
    assert found({**DELETION, "explainer": None, "metric": "rao_auc", "at_least": 0.1}) == []
    named = [{**DELETION, "check": "removal"}, {**SWEEP, "check": "stable"}]
    assert found(*named, plan=PLAN) == []
    # a check that no kind has the name of may be about faithfulness
    assert found({**SWEEP, "check": "mine"}) == []


def test_stability_by_itself_shows_nothing() -> None:
    assert found(SWEEP) == [("no_evidence", "policy")]
    (advice,) = lint([Condition.model_validate(SWEEP)])
    assert "a map that ignores the model can meet every condition of this policy" in advice.message
    assert "add a condition on faithfulness, such as `inter_model_deletion` at least 0" in advice.message
    assert found({**SWEEP, "check": "stable"}, plan=PLAN) == [("no_evidence", "policy")]
    # the random control is not what a policy is about
    assert found({**SWEEP, "check": "stable"}, {**DELETION, "check": "removal", "explainer": "dice"}, plan=PLAN) == [
        ("no_evidence", "policy")
    ]


def test_an_explainer_without_evidence_is_named() -> None:
    policy = [DELETION, {**SWEEP, "explainer": "grad_cam"}]
    assert found(*policy) == [("explainer_without_evidence", "policy")]
    advice = lint([Condition.model_validate(one) for one in policy])[0]
    assert "every condition on grad_cam" in advice.message


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"at_least": -0.1}, "always_vacuous", "at_least"),
        ({"at_least": -1.0, "metric": "srg"}, "cannot_miss", "at_least"),
        ({"at_least": None, "at_most": 0.5}, "against_direction", "at_most"),
        ({"metric": "morf_auc", "at_least": 0.1}, "against_direction", "at_least"),
        ({"at_least": 0.1, "statistic": "mean"}, "mean_decides", "statistic"),
        ({"min_images": 7}, "few_images", "min_images"),
    ],
)
def test_a_condition_gets_advice(changes: dict[str, Any], code: str, field: str) -> None:
    assert (code, f"policy.1.{field}") in found(DELETION, {**DELETION, **changes})


def test_thresholds_at_chance_are_not_vacuous_by_the_interval() -> None:
    assert found(DELETION) == []
    assert ("always_vacuous", "policy.0.at_least") in found({**DELETION, "statistic": "mean"})


def test_a_condition_that_comes_twice() -> None:
    assert found(DELETION, SWEEP, {**DELETION, "id": "again"}) == [("repeated", "policy.2")]


def test_a_policy_that_never_fails_or_decides_nothing() -> None:
    assert found({**DELETION, "severity": "warn"}) == [("never_fails", "policy")]
    assert found({**DELETION, "on_not_applicable": "skip"}) == [("all_skippable", "policy")]
    assert found() == []


def test_what_the_plan_does_not_have() -> None:
    assert found({**DELETION, "check": "removal"}, {**DELETION, "metric": "srg"}, plan=PLAN) == [
        ("not_in_plan", "policy.1.check")
    ]
    # names of models and a baseline belong to the request
    policy = {**DELETION, "check": "removal", "model": "one"}
    assert found(policy, {**policy, "at_least": None, "non_inferiority_margin": 0.1}, plan=PLAN) == []


def test_every_check_of_the_catalogue_can_be_linted() -> None:
    plan = AuditPlan(explainers=(Gradient(),), checks=every_check.and_every_other_check(()))
    for check in plan.checks:
        for name, metric in check.metrics.items():
            condition = {"check": check.label, "metric": name, "variant": "*", "at_least": 0.0}
            condition["explainer"] = "gradient" if metric.of_explainer else None
            found(condition)
            found(condition, plan=plan)
