"""Conditions that a random map, or a random order, meets too: they must not make a verdict pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import made_up_audits as made_up
from auditcore.contracts.checks import RandomizationCheck
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport

IMAGES = 10
PLAN = made_up.PLAN
SPREAD = np.linspace(-0.02, 0.02, IMAGES)


def around(mean: float) -> list[float]:
    """Values with this mean, whose interval reaches less than 0.02 to both sides."""
    return (mean + SPREAD).round(5).tolist()


def condition(**changes: Any) -> Condition:
    fields = {"id": "mine", "check": "deletion", "explainer": "gradient", "metric": "srg"}
    return Condition.model_validate(fields | changes)


def report(
    *policy: Condition, of_map: Sequence[float], of_random: Sequence[float] | None, **changes: Any
) -> AuditReport:
    """An audit in which the explainer and the random control have these values."""
    plan = changes.pop("plan", PLAN)
    rows = [made_up.row("gradient", of_map, **changes)]
    if of_random is not None:
        rows.append(made_up.row("random", of_random, **changes))
    rows += [made_up.row("gradient", around(0.4), metric="rao_auc", higher_is_better=None)] if changes else []
    return made_up.report(made_up.shard(None, {i: [1] for i in range(IMAGES)}, *rows), plan=plan, policy=policy)


@pytest.mark.parametrize("statistic", ["ci", "mean"])
@pytest.mark.parametrize(("sign", "side"), [(1, "at_least"), (-1, "at_most")])
def test_a_threshold_that_a_random_map_meets_is_vacuous(statistic: str, sign: int, side: str) -> None:
    asked = condition(**{side: sign * 0.2}, statistic=statistic)
    knows = report(asked, of_map=around(sign * 0.5), of_random=around(sign * 0.1))
    assert (knows.conditions[0].status, knows.verdict) == ("passed", "pass")
    found = report(asked, of_map=around(sign * 0.5), of_random=around(sign * 0.3))
    (outcome,) = found.conditions
    assert (outcome.status, found.verdict, found.statistics.vacuous) == ("vacuous", "inconclusive", 1)
    assert outcome.message.startswith(f"a random map meets this too (mean {sign * 0.3:g}, 95 % interval [")
    assert "so it cannot make the verdict pass; " in outcome.message
    assert found.verdict_reason is not None
    assert "mine of gradient, which a random map meets too" in found.verdict_reason
    # a miss stays a miss, and an open condition stays open
    for threshold, status in ((0.6, "failed"), (0.5, "inconclusive" if statistic == "ci" else "passed")):
        missed = report(
            condition(**{side: sign * threshold}, statistic=statistic),
            of_map=around(sign * 0.5),
            of_random=around(sign * 0.3),
        )
        assert missed.conditions[0].status == status


def test_the_random_map_is_judged_by_the_same_statistic() -> None:
    # its mean meets the threshold, but not its whole interval
    for statistic, status in (("ci", "passed"), ("mean", "vacuous")):
        asked = condition(at_least=0.299, statistic=statistic)
        assert report(asked, of_map=around(0.5), of_random=around(0.3)).conditions[0].status == status


def test_a_condition_on_the_control_itself_is_not_vacuous() -> None:
    asked = condition(explainer="random", at_least=0.1)
    found = report(asked, of_map=around(0.5), of_random=around(0.3))
    assert found.conditions[0].status == "passed"


def test_without_a_control_nothing_is_vacuous() -> None:
    assert report(condition(at_least=0.0), of_map=around(0.5), of_random=None).conditions[0].status == "passed"


# --- the random order of deletion -----------------------------------------------------------------


@pytest.mark.parametrize("metric", ["inter_model_deletion", "srg"])
@pytest.mark.parametrize(
    ("threshold", "status"),
    [
        ({"at_least": -0.01}, "vacuous"),
        # a random order has 0 only on average: its interval contains 0
        ({"at_least": 0.0}, "passed"),
        ({"at_least": 0.01}, "passed"),
        # by the mean, it reaches 0 half of the time
        ({"at_least": 0.0, "statistic": "mean"}, "vacuous"),
        ({"at_least": 0.01, "statistic": "mean"}, "passed"),
    ],
)
def test_a_random_order_scores_0_in_differences_of_deletion(
    metric: str, threshold: dict[str, Any], status: str
) -> None:
    asked = condition(metric=metric, **threshold)
    found = report(asked, of_map=around(0.5), of_random=around(-0.3), metric=metric)
    assert found.conditions[0].status == status
    if status == "vacuous":
        assert found.conditions[0].message.startswith("a random order meets this too (mean 0), ")


@pytest.mark.parametrize(
    ("metric", "threshold", "of_map"), [("lerf_auc", {"at_least": 0.3}, 0.6), ("morf_auc", {"at_most": 0.5}, 0.2)]
)
def test_the_area_of_the_random_order_is_the_floor_of_areas(
    metric: str, threshold: dict[str, float], of_map: float
) -> None:
    of_random = 0.1 if metric == "lerf_auc" else 0.9
    found = report(condition(metric=metric, **threshold), of_map=around(of_map), of_random=around(of_random),
                   metric=metric)  # fmt: skip
    assert found.conditions[0].status == "vacuous"
    assert found.conditions[0].message.startswith("a random order meets this too (mean 0.4, 95 % interval [")
    stricter = {side: value + (0.2 if side == "at_least" else -0.2) for side, value in threshold.items()}
    assert report(
        condition(metric=metric, **stricter), of_map=around(of_map), of_random=around(of_random), metric=metric
    ).conditions[0].status == "passed"  # fmt: skip


# --- randomization --------------------------------------------------------------------------------


def test_a_random_map_is_no_floor_where_the_best_map_changes() -> None:
    plan = PLAN.model_copy(update={"checks": (*PLAN.checks, RandomizationCheck())})
    asked = condition(check="randomization", metric="randomized_similarity", at_most=0.5)
    fields = {"check": "randomization", "metric": "randomized_similarity", "higher_is_better": False}
    found = report(asked, of_map=around(0.2), of_random=around(0.0), plan=plan, **fields)
    assert found.conditions[0].status == "passed"
    assert found.conditions[0].message.startswith("a random map meets this too (mean ")
    # but a random map would pass this policy
    assert found.verdict == "inconclusive"
    assert found.verdict_reason is not None
    assert "a random map meets every condition that passed" in found.verdict_reason


# --- a property -----------------------------------------------------------------------------------


@given(
    of_map=st.integers(-40, 40).map(lambda value: value / 50),
    of_random=st.integers(-40, 40).map(lambda value: value / 50),
    threshold=st.integers(-40, 40).map(lambda value: value / 50 + 0.007),
    at_least=st.booleans(),
)
def test_what_passes_is_missed_by_the_random_map(
    of_map: float, of_random: float, threshold: float, *, at_least: bool
) -> None:
    side = {"at_least": threshold} if at_least else {"at_most": threshold}
    asked, of_control = condition(**side), condition(explainer="random", **side)
    first, second = report(asked, of_control, of_map=around(of_map), of_random=around(of_random)).conditions
    if first.status == "passed":
        assert second.status != "passed"
    if first.status == "vacuous":
        assert second.status == "passed" or (threshold < 0) == at_least
