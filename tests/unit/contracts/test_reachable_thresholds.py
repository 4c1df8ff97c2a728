"""A condition asks for a value that its metric can have."""

from __future__ import annotations

import pytest

import every_check
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.metric import Metric
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition, validate_policy
from auditcore.errors import InvalidRequest

PLAN = AuditPlan(explainers=(Gradient(),), checks=every_check.and_every_other_check(()))
MEASURED = [
    (check.label, name, metric)
    for check in PLAN.checks
    for name, metric in check.measured_metrics.items()
    if not metric.control
]


def judge(check: str, name: str, metric: Metric, **threshold: float) -> None:
    variants = next(one for one in PLAN.checks if one.label == check).variants_of(name)
    condition = Condition(
        check=check,
        explainer="gradient" if metric.of_explainer else None,
        metric=name,
        variant=variants[0] if variants else None,
        **threshold,
    )
    validate_policy((condition,), PLAN)


@pytest.mark.parametrize(
    ("check", "name", "metric"), MEASURED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_only_thresholds_that_no_value_reaches_are_refused(check: str, name: str, metric: Metric) -> None:
    for side, bound, outward in (("at_least", metric.highest, 1), ("at_most", metric.lowest, -1)):
        if bound is None:
            judge(check, name, metric, **{side: outward * 1e6})
            continue
        judge(check, name, metric, **{side: bound})
        # a threshold that every value meets is a matter of taste
        judge(check, name, metric, **{side: bound - outward * 1e6})
        with pytest.raises(InvalidRequest, match=f"{name} is at (most|least)") as caught:
            judge(check, name, metric, **{side: bound + outward * 1e-6})
        assert caught.value.field == f"policy.0.{side}"


def test_some_metrics_of_the_checks_have_bounds_and_some_have_none() -> None:
    bounds = {(metric.lowest is None, metric.highest is None) for _, _, metric in MEASURED}
    assert {(False, False), (False, True), (True, True)} <= bounds


def test_a_percentage_is_answered_with_its_share() -> None:
    metric = next(metric for check, name, metric in MEASURED if (check, name) == ("edda", "umask_agreement"))
    with pytest.raises(InvalidRequest, match=r"is at most 1 .*for 95 %, write 0\.95"):
        judge("edda", "umask_agreement", metric, at_least=95)
