"""Which results a condition with patterns is judged by."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditcore.contracts.augmentations import Brightness, Rotate
from auditcore.contracts.checks import AgreementCheck, DeletionCheck, EddaCheck, RoadCheck, SweepCheck
from auditcore.contracts.explainers import GradCam, Gradient, InputXGradient, Random
from auditcore.contracts.name_patterns import is_pattern, matching
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import MOST_QUESTIONS, Condition, Row, questions_of, validate_policy
from auditcore.errors import InvalidRequest

PLAN = AuditPlan(
    explainers=(Gradient(), InputXGradient(), GradCam(), Random()),
    checks=(
        SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-20, 20)))),
        DeletionCheck(explainers=("gradient", "grad_cam")),
        DeletionCheck(name="both_orders", rank_by="both"),
        EddaCheck(keep=(0.15, 0.3)),
    ),
)
MODELS = ("today", "candidate_a", "candidate_b")


def condition(**changes: Any) -> Condition:
    fields = {"check": "deletion", "explainer": "gradient", "metric": "inter_model_deletion", "at_least": 0.0}
    return Condition.model_validate(fields | changes)


def rows(**changes: Any) -> list[Row]:
    return [question.row for question in questions_of((condition(**changes),), PLAN)]


def test_a_condition_without_patterns_has_one_result() -> None:
    assert rows() == [("deletion", "gradient", "inter_model_deletion", None)]


def test_a_pattern_of_explainers_leaves_out_the_random_control_and_explainers_that_the_check_does_not_run_on() -> None:
    assert [explainer for _, explainer, _, _ in rows(explainer="*")] == ["gradient", "grad_cam"]
    assert [explainer for _, explainer, _, _ in rows(explainer="grad*")] == ["gradient", "grad_cam"]
    assert [explainer for _, explainer, _, _ in rows(explainer="grad_???")] == ["grad_cam"]
    everything = rows(explainer="*", check="both_orders", variant="signed")
    assert [explainer for _, explainer, _, _ in everything] == ["gradient", "input_x_gradient", "grad_cam"]
    assert rows(explainer="random", check="both_orders", variant="signed")[0][1] == "random"


def test_a_pattern_of_variants_also_stands_for_a_metric_without_any() -> None:
    sweep = {"check": "sweep", "metric": "s_pearson"}
    assert [variant for *_, variant in rows(**sweep, variant="*")] == ["brightness", "rotate", "mean"]
    assert [variant for *_, variant in rows(**sweep, variant="r*")] == ["rotate"]
    assert [variant for *_, variant in rows(variant="*")] == [None]
    # no variant means none
    with pytest.raises(InvalidRequest, match="variant null is not part of this audit; use one of: brightness, rotate"):
        rows(**sweep)


def test_a_pattern_of_checks_takes_those_that_have_the_metric() -> None:
    assert [row[::3] for row in rows(check="*", variant="*")] == [
        ("deletion", None), ("both_orders", "signed"), ("both_orders", "magnitude")
    ]  # fmt: skip


def test_metrics_of_one_unit_and_direction_can_be_matched_together() -> None:
    assert {metric for _, _, metric, _ in rows(metric="[is][nr]*")} == {"inter_model_deletion", "srg"}


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        (
            {"metric": "*_auc"},
            "metric",
            r"lerf_auc of deletion \(probability, higher is better\); morf_auc of deletion",
        ),
        (
            {"check": "edda", "metric": "*", "variant": "top_15"},
            "metric",
            "write a condition for each kind",
        ),
    ],
)
def test_one_threshold_for_metrics_of_different_units_or_directions_is_refused(
    fields: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        rows(**fields)
    assert caught.value.field == f"policy.0.{field}"


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        (
            {"check": "del?"},
            "check",
            "the pattern 'del[?]' matches no check of this audit; use one of: sweep, deletion",
        ),
        ({"explainer": "lrp_*"}, "explainer", "matches no explainer of this audit; use one of: gradient, grad_cam$"),
        ({"metric": "s_*"}, "metric", "matches no metric of this audit; use one of: lerf_auc, morf_auc"),
        ({"variant": "top*"}, "variant", "matches no variant of this audit; use one of: null"),
        ({"model": "a*"}, "model", "matches no model of this audit; use one of: null"),
        # a property of the model belongs to no explainer
        (
            {"check": "sweep", "metric": "probability_score", "explainer": "*"},
            "explainer",
            "matches no explainer of this audit; use one of: null",
        ),
    ],
)
def test_a_pattern_without_a_match_is_refused_with_the_names_that_exist(
    fields: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        rows(**fields)
    assert caught.value.field == f"policy.0.{field}"


def test_a_condition_is_judged_for_each_model_or_those_that_a_pattern_matches() -> None:
    def judged(model: str | None) -> list[str | None]:
        return [question.model for question in questions_of((condition(model=model),), PLAN, MODELS)]

    assert judged(None) == list(MODELS)
    assert judged("candidate_*") == ["candidate_a", "candidate_b"]
    assert judged("today") == ["today"]
    plan = PLAN.model_copy(update={"checks": (*PLAN.checks, AgreementCheck(reference="today"))})
    agreement = condition(check="agreement", metric="pearson", model="*")
    assert [question.model for question in questions_of((agreement,), plan, MODELS)] == ["candidate_a", "candidate_b"]
    with pytest.raises(InvalidRequest, match="which has no results of its own") as caught:
        questions_of((agreement.model_copy(update={"model": "tod*"}),), plan, MODELS)
    assert caught.value.field == "policy.0.model"


def test_questions_keep_the_order_of_the_policy_and_the_id_of_their_condition() -> None:
    found = questions_of((condition(explainer="*", id="all"), condition()), PLAN)
    assert [(one.number, one.id, one.row[1]) for one in found] == [
        (0, "all", "gradient"), (0, "all", "grad_cam"), (1, "1", "gradient")
    ]  # fmt: skip


def test_a_policy_that_asks_too_much_is_refused() -> None:
    names = [f"e{number}" for number in range(64)]
    plan = AuditPlan(
        explainers=tuple(Gradient(name=name) for name in names),
        checks=tuple(RoadCheck(name=f"c{number}") for number in range(32)),
    )
    everything = condition(check="*", explainer="*", metric="road_gain", variant="*")
    each = len(questions_of((everything,), plan))
    enough = MOST_QUESTIONS // each
    assert len(questions_of((everything,) * enough, plan)) == enough * each
    with pytest.raises(InvalidRequest, match=f"more than {MOST_QUESTIONS} results"):
        questions_of((everything,) * (enough + 1), plan)


def test_every_matched_metric_must_be_able_to_reach_the_threshold() -> None:
    with pytest.raises(InvalidRequest, match="inter_model_deletion is at most 1") as caught:
        validate_policy((condition(explainer="*", at_least=2),), PLAN)
    assert caught.value.field == "policy.0.at_least"


@given(
    names=st.lists(st.text("ab_1", max_size=4), max_size=6, unique=True),
    pattern=st.text("ab_1*?", max_size=4),
)
def test_patterns_match_as_their_expansion_does(names: list[str], pattern: str) -> None:
    def matches(pattern: str, name: str) -> bool:
        """Expand every `*` to each length."""
        if not pattern:
            return not name
        if pattern[0] == "*":
            return any(matches(pattern[1:], name[cut:]) for cut in range(len(name) + 1))
        return bool(name) and pattern[0] in {"?", name[0]} and matches(pattern[1:], name[1:])

    expected = tuple(name for name in names if (matches(pattern, name) if is_pattern(pattern) else name == pattern))
    assert matching(pattern, names) == expected


def test_only_a_pattern_matches_a_missing_name() -> None:
    assert matching(None, [None, "a"]) == (None,)
    assert matching("*", [None, "a"]) == (None, "a")
    assert matching("?", [None, "a"]) == ("a",)
    assert not any(is_pattern(name) for name in (None, "", "top_15", "r18.v1-x"))
    assert all(is_pattern(f"a{special}") for special in "*?[")


def test_old_digests_stay() -> None:
    assert set(condition().model_dump()) == {
        "id", "model", "check", "explainer", "metric", "variant", "statistic", "min_images", "at_least", "at_most",
        "severity",
    }  # fmt: skip
