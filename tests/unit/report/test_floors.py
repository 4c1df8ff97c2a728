"""The floor of each number: the mean of the random control for the same condition."""

from __future__ import annotations

import pytest

import made_up_audits
from auditcore.contracts.augmentations import Brightness
from auditcore.contracts.checks import DeletionCheck, SweepCheck
from auditcore.contracts.explainers import Gradient, Random
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.shards import Measurement

CHECKS = (
    SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)),)),
    SweepCheck(name="again", augmentations=(Brightness(interval=(-0.2, 0.2)),)),
    DeletionCheck(),
)
PLAN = AuditPlan(explainers=(Gradient(), Random(name="noise"), Random(name="more_noise")), checks=CHECKS)


def s_row(explainer: str | None, *values: float | None, check: str = "sweep", **changes: object) -> Measurement:
    fields: dict[str, object] = {"metric": "s_pearson", "unit": "ratio", "variant": "brightness", "check": check}
    reasons = {index: "why" for index, value in enumerate(values) if value is None}
    return made_up_audits.row(explainer, values, **(fields | {"reasons": reasons} | changes))  # type: ignore[arg-type]


def floors(report: AuditReport) -> dict[tuple[str | None, str, str | None, str, str | None], float | None]:
    every = (*report.results, *report.controls)
    return {(one.model, one.check, one.explainer, one.metric, one.variant): one.floor for one in every}


def test_the_floor_is_the_mean_of_the_control_for_the_same_model_check_metric_and_augmentation() -> None:
    plan = PLAN.model_copy(update={"explainers": (Gradient(), Random())})
    shards = [
        made_up_audits.shard(
            name,
            {0: [1], 1: [1]},
            s_row("gradient", 0.9, 0.7),
            s_row("random", low, None),
            s_row("gradient", 0.8, 0.8, check="again"),
            s_row("random", low + 0.2, low + 0.4, check="again"),
            s_row("gradient", 0.8, 0.8, metric="s_top_k"),
        )
        for name, low in (("one", 0.1), ("two", 0.5))
    ]
    found = floors(made_up_audits.report(*shards, plan=plan))
    for model, low in (("one", 0.1), ("two", 0.5)):
        assert found[model, "sweep", "gradient", "s_pearson", "brightness"] == pytest.approx(low)
        assert found[model, "again", "gradient", "s_pearson", "brightness"] == pytest.approx(low + 0.3)
        # no control of this metric
        assert found[model, "sweep", "gradient", "s_top_k", "brightness"] is None
        assert found[model, "sweep", "random", "s_pearson", "brightness"] is None


def test_a_control_that_is_not_in_the_plan_is_a_floor_too() -> None:
    plan = PLAN.model_copy(update={"explainers": (Gradient(),)})
    shard = made_up_audits.shard(None, {0: [1]}, s_row("gradient", 0.9), s_row("random", 0.3, control=True))
    report = made_up_audits.report(shard, plan=plan)
    assert floors(report) == {
        (None, "sweep", "gradient", "s_pearson", "brightness"): 0.3,
        (None, "sweep", "random", "s_pearson", "brightness"): None,
    }


def test_of_several_controls_the_first_counts_and_none_has_a_floor() -> None:
    rows = (s_row("gradient", 0.9), s_row("noise", 0.3), s_row("more_noise", 0.4))
    found = floors(made_up_audits.report(made_up_audits.shard(None, {0: [1]}, *rows), plan=PLAN))
    assert [value for _, value in sorted(found.items(), key=str)] == [0.3, None, None]


def test_metrics_that_are_not_scores_of_explainers_have_no_floor() -> None:
    probability = {"metric": "probability_score", "unit": "area"}
    chance = {"metric": "top_k_chance", "unit": "share", "variant": None, "control": True}
    rows = (
        s_row(None, 0.9, **probability),
        s_row("noise", 0.2, **chance),
        s_row("gradient", 0.1, **chance),
        made_up_audits.row(
            "gradient", [0.1], check="explainer", metric="completeness_error", unit="relative error", control=True
        ),
    )
    report = made_up_audits.report(made_up_audits.shard(None, {0: [1]}, *rows), plan=PLAN)
    assert set(floors(report).values()) == {None}


def test_a_floor_of_zero_stays_and_a_missing_one_is_left_out_of_the_json() -> None:
    rows = (s_row("gradient", 0.9), s_row("noise", 0.0))
    report = made_up_audits.report(made_up_audits.shard(None, {0: [1]}, *rows), plan=PLAN)
    (row,) = report.results
    assert row.model_dump(mode="json")["floor"] == 0.0
    assert "floor" not in report.controls[0].model_dump(mode="json")
