"""Changes since a baseline: a float64 replica, another implementation, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

import made_up_audits as made_up
from auditcore.contracts.baseline_reference import BaselineReference
from auditcore.contracts.policy import Condition, validate_policy
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.report import AuditReport, BaselineChange, ConditionOutcome
from auditcore.errors import InvalidRequest
from auditcore.report.gate import reevaluate

PLAN = made_up.PLAN
Values = Sequence[float | None]


def condition(**changes: Any) -> Condition:
    fields = {"id": "mine", "check": "deletion", "explainer": "gradient", "metric": "srg"}
    return Condition.model_validate(fields | changes)


def audit(
    values: Values,
    *,
    model: str | None = None,
    of_random: Values | None = None,
    first: int = 0,
    copies: dict[int, int] | None = None,
    plan: Any = PLAN,
    **row: Any,
) -> AuditReport:
    """A report in which the gradient has these values of the symmetric relevance gain."""
    rows = [made_up.row("gradient", values, **row)]
    if of_random is not None:
        rows.append(made_up.row("random", of_random, **row))
    images = {first + index: [1] for index in range(len(values))}
    return made_up.report(made_up.shard(model, images, *rows, copies=copies), plan=plan)


def judge(now: AuditReport, before: AuditReport, **criterion: Any) -> ConditionOutcome:
    (outcome,) = reevaluate(now, (condition(**criterion),), baseline=before).conditions
    return outcome


def change(now: AuditReport, before: AuditReport, **criterion: Any) -> BaselineChange:
    found = judge(now, before, **(criterion or {"min_absolute_change": 0.0})).change
    assert found is not None
    return found


def draw(seed: int, count: int = 12, mean: float = 0.3) -> list[float]:
    return np.random.default_rng(seed).normal(mean, 0.1, count).round(5).tolist()


# --- the numbers ----------------------------------------------------------------------------------


def test_the_change_is_the_mean_of_paired_differences() -> None:
    """A float64 replica, with copies and gaps."""
    now: list[float | None] = [0.5, 0.6, None, 0.2, 0.9, 0.4]
    before: list[float | None] = [0.4, 0.7, 0.3, None, 0.1, 0.2]
    # images 4 and 5 are the same photo
    found = change(audit(now, copies={5: 4}), audit(before, copies={5: 4}))
    pairs: dict[int, list[tuple[float, float]]] = {}
    for index, (new, old) in enumerate(zip(now, before, strict=True)):
        if new is not None and old is not None:
            pairs.setdefault(min(index, 4), []).append((new, old))
    means = [tuple(math.fsum(side) / len(side) for side in zip(*own, strict=True)) for own in pairs.values()]
    assert found.n == len(means) == 3
    assert found.change == pytest.approx(math.fsum(new - old for new, old in means) / len(means), rel=1e-6)
    assert found.baseline_mean == pytest.approx(math.fsum(old for _, old in means) / len(means), rel=1e-6)
    assert found.kind == "absolute"


def test_few_pairs_have_the_interval_of_a_paired_t_test() -> None:
    now, before = draw(1, 4), draw(2, 4, mean=0.1)
    found = change(audit(now), audit(before))
    test = ttest_rel(now, before)
    low, high = test.confidence_interval(0.95)
    assert found.ci == pytest.approx((low, high), rel=1e-6)
    assert found.change == pytest.approx(np.mean(now) - np.mean(before), rel=1e-6)
    relative = change(audit(now), audit(before), min_relative_change=0.0)
    scale = abs(float(np.mean(before)))
    assert relative.ci == pytest.approx((low / scale, high / scale), rel=1e-5)
    assert relative.change == pytest.approx((np.mean(now) - np.mean(before)) / scale, rel=1e-6)
    assert relative.kind == "relative"


def test_the_interval_is_that_of_a_comparison_of_two_models() -> None:
    now, before = draw(3), draw(4)
    shards = [
        made_up.shard(name, {i: [1] for i in range(12)}, made_up.row("gradient", values))
        for name, values in (("one", before), ("two", now))
    ]
    (compared,) = made_up.report(*shards).comparisons
    found = change(audit(now), audit(before))
    assert (found.n, found.change, found.ci) == (compared.n, compared.difference, compared.ci)


def test_below_the_mean_of_the_baseline_a_relative_change_keeps_its_sign() -> None:
    found = change(audit(draw(5, mean=-0.2)), audit(draw(6, mean=-0.4)), min_relative_change=0.0)
    assert found.baseline_mean is not None
    assert found.baseline_mean < 0
    assert found.change is not None
    assert found.change > 0


@settings(max_examples=12)
@given(
    values=st.lists(st.integers(-400, 400).map(lambda v: v / 1000), min_size=3, max_size=10),
    seed=st.integers(0, 99),
    shift=st.integers(-300, 300).map(lambda v: v / 1000),
)
def test_a_shift_moves_the_change_and_swapping_the_reports_turns_its_sign(
    values: list[float], seed: int, shift: float
) -> None:
    now, before = audit(values), audit(draw(seed, len(values)))
    plain, back = change(now, before), change(before, now)
    moved = change(audit([round(value + shift, 5) for value in values]), before)
    assert plain.change is not None
    assert moved.change == pytest.approx(plain.change + shift, abs=1e-6)
    assert back.change == pytest.approx(-plain.change, abs=1e-12)
    assert plain.ci is not None
    assert moved.ci is not None
    assert (moved.ci[1] - moved.ci[0]) > 0
    assert plain.n == back.n == len(values)


def test_where_lower_is_better_a_drop_is_an_improvement() -> None:
    row = {"metric": "morf_auc", "higher_is_better": False}
    now, before = audit(draw(1, mean=0.2), **row), audit(draw(2, mean=0.6), **row)
    found = judge(now, before, metric="morf_auc", min_absolute_change=0.2)
    assert found.change is not None
    assert found.change.change == pytest.approx(np.mean(draw(2, mean=0.6)) - np.mean(draw(1, mean=0.2)), rel=1e-6)
    assert found.status == "passed"
    assert judge(before, now, metric="morf_auc", non_inferiority_margin=0.2).status == "failed"


# --- conditions -----------------------------------------------------------------------------------

BETTER, EQUAL, WORSE = 0.05, 0.0, -0.05
NOISE = np.linspace(-0.01, 0.01, 12)


def moved_by(amount: float) -> tuple[AuditReport, AuditReport]:
    """An audit and its baseline, whose values differ by this amount with a small spread."""
    before = draw(7)
    now = [round(value + amount + noise, 5) for value, noise in zip(before, NOISE.tolist(), strict=True)]
    return audit(now), audit(before)


@pytest.mark.parametrize(
    ("criterion", "amount", "status"),
    [
        ({"min_absolute_change": 0.03}, BETTER, "passed"),
        ({"min_absolute_change": 0.05}, BETTER, "inconclusive"),
        ({"min_absolute_change": 0.03}, EQUAL, "failed"),
        ({"min_relative_change": 0.1}, BETTER, "passed"),
        ({"min_relative_change": 0.1}, EQUAL, "failed"),
        ({"non_inferiority_margin": 0.02}, BETTER, "passed"),
        ({"non_inferiority_margin": 0.02}, EQUAL, "passed"),
        ({"non_inferiority_margin": 0.05}, WORSE, "inconclusive"),
        ({"non_inferiority_margin": 0.02}, WORSE, "failed"),
        ({"non_inferiority_margin": 0.02, "severity": "warn"}, WORSE, "warned"),
        ({"non_inferiority_margin": 0.02, "min_images": 13}, EQUAL, "inconclusive"),
        ({"min_absolute_change": 0.05, "statistic": "mean"}, BETTER + 1e-4, "passed"),
        ({"min_absolute_change": 0.05, "statistic": "mean"}, BETTER - 1e-4, "failed"),
    ],
)
def test_a_change_is_judged_by_its_interval(criterion: dict[str, Any], amount: float, status: str) -> None:
    now, before = moved_by(amount)
    assert judge(now, before, **criterion).status == status


def test_the_message_says_what_was_compared() -> None:
    now, before = moved_by(BETTER)
    found = judge(now, before, non_inferiority_margin=0.02)
    assert found.change is not None
    assert found.change.ci is not None
    low, high = found.change.ci
    assert found.message == (
        f"95 % interval [{low:.4g}, {high:.4g}] of the change since the baseline over 12 images is at least -0.02; "
        f"mean of the baseline {found.change.baseline_mean:.4g}"
    )
    assert (found.comparison, found.threshold, found.n) == ("non_inferiority_margin", 0.02, 12)
    assert found.observed == now.results[0].mean
    assert found.ci == now.results[0].ci
    relative = judge(now, before, min_relative_change=0.1)
    assert "of the relative change since the baseline over 12 images is at least 0.1" in relative.message
    few = judge(now, before, min_absolute_change=0.0, min_images=13)
    assert few.message.startswith("only 12 images of the 13 that `min_images` requires have a value in both audits; ")


def test_a_random_map_in_place_of_the_map_makes_non_inferiority_vacuous() -> None:
    """A baseline that is no better than chance is no standard."""
    now, before = draw(8, mean=0.3), draw(9, mean=0.1)
    criterion = {"non_inferiority_margin": 0.05}
    good = judge(audit(now, of_random=draw(10, mean=-0.5)), audit(before), **criterion)
    assert good.status == "passed"
    found = judge(audit(now, of_random=draw(10, mean=0.2)), audit(before), **criterion)
    assert found.status == "vacuous"
    assert found.message.startswith("a random map meets this too (change since the baseline 0.")
    # the random order of deletion, which scores 0, is as good as a baseline below 0
    order = judge(audit(now), audit(draw(9, mean=-0.3)), **criterion)
    assert order.message.startswith("a random order meets this too (change since the baseline 0.")


# --- what has no change ---------------------------------------------------------------------------


def test_a_relative_change_of_0_is_null_with_a_reason() -> None:
    found = judge(audit(draw(1)), audit([0.0] * 12), min_relative_change=0.1)
    assert found.status == "not_applicable"
    assert found.change is not None
    assert (found.change.change, found.change.ci, found.change.n) == (None, None, 12)
    assert found.change.reason == "the baseline's mean is 0, so no relative change is defined"
    assert found.message == f"there is no change to judge: {found.change.reason}"
    assert change(audit(draw(1)), audit([0.0] * 12)).change == pytest.approx(np.mean(draw(1)), rel=1e-6)


def test_a_result_that_only_one_audit_has_is_null_with_a_reason() -> None:
    now = audit(draw(1))
    empty = judge(now, audit([None] * 12), min_absolute_change=0.0)
    assert (empty.status, empty.n) == ("not_applicable", 0)
    assert empty.message == "there is no change to judge: no image has a value in both audits"
    other = judge(now, audit(draw(1), metric="lerf_auc"), min_absolute_change=0.0, on_not_applicable="fail")
    assert other.status == "failed"
    assert other.message.startswith("there is no change to judge: the baseline has no such result; `on_not_applicable`")
    nothing = judge(audit(draw(1), metric="lerf_auc"), now, min_absolute_change=0.0)
    assert (nothing.status, nothing.observed) == ("not_applicable", None)


def test_the_same_model_with_the_same_settings_has_not_changed() -> None:
    now = audit(draw(1))
    found = judge(now, now, non_inferiority_margin=0.0)
    assert found.status == "passed"
    assert found.change is not None
    assert (found.change.change, found.change.ci) == (0.0, (0.0, 0.0))
    # equal values of another model may differ on other images
    assert now.model is not None
    other = change(now, now.model_copy(update={"model": now.model.model_copy(update={"digest": made_up.digest(0)})}))
    assert other.change == 0
    assert other.ci is not None
    assert other.ci[0] < 0 < other.ci[1]


# --- which audits are compared --------------------------------------------------------------------


def test_what_differs_besides_the_model_is_named() -> None:
    now = audit(draw(1))
    assert now.model is not None
    same = reevaluate(now, (condition(min_absolute_change=0.0),), baseline=audit(draw(2)))
    assert same.baseline is not None
    assert (same.baseline.audit_id, same.baseline.shared_images, same.baseline.differences) == ("a", 12, ())
    assert same.baseline.plan_digest == now.manifest.plan_digest
    checks = PLAN.checks
    plan = PLAN.model_copy(
        update={
            "seed": 4,
            "target": "label",
            "checks": (checks[0], checks[1].model_copy(update={"repeats": 9})),
        }
    )
    before = audit(draw(2), plan=plan)
    assert before.model is not None
    before = before.model_copy(
        update={"model": before.model.model_copy(update={"preprocessing": Preprocessing(resize=32, crop=32)})}
    )
    found = reevaluate(now, (condition(min_absolute_change=0.0),), baseline=before)
    assert found.baseline is not None
    assert found.baseline.differences == ("another preprocessing", "seed 4 instead of 3", "another target")
    assert found.conditions[0].message.endswith(
        "; the baseline has another preprocessing and seed 4 instead of 3 and another target and other settings of "
        "check deletion"
    )


@pytest.mark.parametrize(
    ("now", "before", "message"),
    [
        ({"first": 0}, {"first": 1}, "1 of its images are not in this audit, and 1 images of this audit"),
        ({"values": draw(1, 11)}, {}, "1 of its images are not in this audit, and 0 images of this audit"),
        ({}, {"values": draw(1, 11)}, "0 of its images are not in this audit, and 1 images of this audit"),
    ],
)
def test_other_images_are_refused(now: dict[str, Any], before: dict[str, Any], message: str) -> None:
    reports = [audit(**{"values": draw(1), **changes}) for changes in (now, before)]
    with pytest.raises(InvalidRequest, match=message) as caught:
        judge(*reports, min_absolute_change=0.0)
    assert caught.value.field == "baseline"


def test_models_are_compared_by_name_and_a_single_model_with_every_one() -> None:
    def several(*values: Values) -> AuditReport:
        images = {i: [1] for i in range(12)}
        return made_up.report(
            *(
                made_up.shard(name, images, made_up.row("gradient", own))
                for name, own in zip(made_up.NAMES, values, strict=False)
            )
        )

    asked = (condition(min_absolute_change=0.0),)
    old, new = several(draw(1), draw(2)), several(draw(3), draw(4), draw(5))
    found = reevaluate(new, asked, baseline=old).conditions
    assert [one.model for one in found] == ["one", "two", "three"]
    assert [one.change and one.change.change for one in found][:2] == [
        change(audit(draw(3)), audit(draw(1))).change,
        change(audit(draw(4)), audit(draw(2))).change,
    ]
    assert found[2].message == "there is no change to judge: the baseline has no model 'three'"
    with_one = reevaluate(old, asked, baseline=audit(draw(6))).conditions
    assert with_one[1].change == change(audit(draw(2)), audit(draw(6)))
    with pytest.raises(InvalidRequest, match=r"compares several models \(one, two\)") as caught:
        judge(audit(draw(1)), old, min_absolute_change=0.0)
    assert caught.value.field == "baseline"


# --- what is refused ------------------------------------------------------------------------------


def test_a_change_needs_a_baseline_and_a_direction() -> None:
    for criterion in ("min_absolute_change", "min_relative_change", "non_inferiority_margin"):
        asked = condition(**{criterion: 0.1})
        with pytest.raises(InvalidRequest, match="names none; add `baseline`") as caught:
            validate_policy((asked,), PLAN)
        assert caught.value.field == f"policy.0.{criterion}"
        validate_policy((asked,), PLAN, baseline=True)
        with pytest.raises(InvalidRequest, match="rao_auc has no direction"):
            validate_policy((asked.model_copy(update={"metric": "rao_auc"}),), PLAN, baseline=True)
    with pytest.raises(InvalidRequest, match="srg is between -1 and 1"):
        validate_policy((condition(min_absolute_change=2.1),), PLAN, baseline=True)
    with pytest.raises(InvalidRequest):
        reevaluate(audit(draw(1)), (condition(min_absolute_change=0.1),))


@pytest.mark.parametrize(
    "fields",
    [{"at_least": 0.1, "min_absolute_change": 0.1}, {"min_relative_change": 0.1, "non_inferiority_margin": 0.1}],
)
def test_a_condition_has_exactly_one_criterion(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give exactly one of at_least and at_most, or, with a baseline"):
        condition(**fields)


def test_a_margin_is_not_negative() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        condition(non_inferiority_margin=-0.1)


@pytest.mark.parametrize("fields", [{}, {"audit": "x", "report": made_up.digest(0)}])
def test_a_baseline_is_named_in_one_way(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="give exactly one of `audit`"):
        BaselineReference.model_validate(fields)
