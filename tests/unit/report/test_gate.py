"""Judging a finished audit by another policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import made_up_audits as made_up
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.models import DemoModel
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.stopping import Conclusive, looks
from auditcore.errors import InvalidRequest
from auditcore.report.assemble import assemble
from auditcore.report.gate import reevaluate
from auditcore.report.stopping import image_order

PLAN = made_up.PLAN
IMAGES = 100
JUDGED = {"conditions", "statistics", "verdict", "verdict_reason", "baseline"}


def condition(**changes: Any) -> Condition:
    fields = {"check": "deletion", "explainer": "gradient", "metric": "srg", "at_least": 0.1}
    return Condition.model_validate(fields | changes)


def draw(mean: float, seed: int = 0, count: int = IMAGES) -> list[float]:
    return np.clip(np.random.default_rng(seed).normal(mean, 0.2, count), -1, 1).round(5).tolist()


def stopped(*policy: Condition, images: int = IMAGES) -> AuditReport:
    """An audit with a stop rule; the gradient has a mean of 0.4, its input times the gradient one of 0.3."""
    order = image_order(PLAN.seed, images)
    first, second = draw(0.4, count=images), draw(0.3, 1, count=images)
    shards, start = [], 0
    for look in looks(images, 8):
        indices = sorted(order[start:look])
        rows = [
            made_up.row(name, [values[index] for index in indices])
            for name, values in (("gradient", first), ("input_x_gradient", second))
        ]
        shards.append(made_up.shard(None, {index: [1] for index in indices}, *rows))
        start = look
    request = AuditRequest(
        model=DemoModel(), images=ImageBatchReference(digest="sha256:" + "0" * 64), plan=PLAN, policy=policy,
        stop=Conclusive(),
    )  # fmt: skip
    return assemble(
        audit_id="a", request=request, plan=PLAN, results=shards, shared={}, attempts=len(shards), started_at=None,
        finished_at=None, image_count=images,
    )  # fmt: skip


def whole(*policy: Condition) -> AuditReport:
    rows = [made_up.row("gradient", draw(0.4)), made_up.row("random", draw(-0.1, 1))]
    return made_up.report(made_up.shard(None, {i: [1] for i in range(IMAGES)}, *rows), policy=policy)


def test_the_same_policy_gives_the_same_report() -> None:
    policy = (condition(), condition(at_least=0.9), condition(explainer="grad*", severity="warn"))
    found = whole(*policy)
    assert reevaluate(found, policy) == found
    assert reevaluate(whole(), policy) == found.model_copy(update={"manifest": whole().manifest})


def test_only_what_the_policy_decides_changes() -> None:
    before = whole(condition())
    after = reevaluate(before, (condition(at_least=0.9, id="strict"),))
    assert (before.verdict, after.verdict) == ("pass", "fail")
    assert after.verdict_reason == "1 of 1 condition failed: strict of gradient."
    assert after.statistics.failed == 1
    changed = {name for name, value in after.model_dump().items() if value != before.model_dump()[name]}
    assert changed <= JUDGED
    assert reevaluate(before, ()).verdict == "not_evaluated"


def test_a_policy_that_the_audit_cannot_judge_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="use one of: gradient, input_x_gradient, grad_cam, random") as caught:
        reevaluate(whole(), (condition(), condition(explainer="lime")))
    assert caught.value.field == "policy.1.explainer"
    with pytest.raises(InvalidRequest, match="srg is at most 1"):
        reevaluate(whole(), (condition(at_least=2),))


# --- audits that a stop rule ended early ----------------------------------------------------------


def test_confidence_sequences_judge_other_thresholds_for_the_same_result() -> None:
    found = stopped(condition())
    assert found.stopping is not None
    assert found.stopping.stopped_early
    assert reevaluate(found, (condition(),)) == found
    low, high = found.stopping.decisions[0].interval
    assert low is not None
    assert high is not None
    assert low < 0.4 < high
    for criterion, status in (
        ({"at_least": low - 1e-3}, "passed"),
        ({"at_least": low + 1e-3}, "inconclusive"),
        ({"at_least": high + 1e-3}, "failed"),
        # a random order scores 0, so it meets this too
        ({"at_least": None, "at_most": high + 1e-3}, "vacuous"),
        ({"at_least": None, "at_most": high - 1e-3}, "inconclusive"),
        ({"at_least": None, "at_most": low - 1e-3}, "failed"),
    ):
        (outcome,) = reevaluate(found, (condition(**criterion),)).conditions
        assert outcome.status == status, criterion
        assert f"confidence sequence [{low:.4g}, {high:.4g}] of the mean " in outcome.message
        assert outcome.anytime_ci == (low, high)


def test_a_result_that_the_stop_rule_did_not_watch_stays_open() -> None:
    found = stopped(condition())
    (outcome,) = reevaluate(found, (condition(explainer="input_x_gradient", at_least=-0.9),)).conditions
    assert outcome.status == "inconclusive"
    assert outcome.message.startswith("the audit stopped early, and its stop rule did not watch this result")
    assert outcome.anytime_ci is None
    changed = condition(at_least=None, non_inferiority_margin=0.5)
    (outcome,) = reevaluate(found, (changed,), baseline=found).conditions
    assert outcome.status == "inconclusive"


def test_an_audit_that_used_all_images_is_judged_by_intervals() -> None:
    found = stopped(condition(at_least=0.4))
    assert found.stopping is not None
    assert not found.stopping.stopped_early
    assert reevaluate(found, (condition(at_least=0.4),)) == found
    (outcome,) = reevaluate(found, (condition(explainer="input_x_gradient", at_least=0.1),)).conditions
    assert outcome.status == "passed"
    assert outcome.message.startswith("95 % interval [")


def test_a_stop_rule_watches_every_match_of_a_pattern() -> None:
    found = stopped(condition(explainer="*rad*", at_least=0.1, min_images=8))
    assert found.stopping is not None
    assert [(one.explainer, one.status) for one in found.conditions][:2] == [
        ("gradient", "passed"), ("input_x_gradient", "passed")
    ]  # fmt: skip
    # grad_cam has no values, so it stays open, and all images are used
    assert [one.decided for one in found.stopping.decisions] == ["met", "met", None]
    assert found.stopping.alpha_each == pytest.approx(0.05 / 3, rel=1e-6)
    both = stopped(condition(explainer="*gradient", at_least=0.1))
    assert both.stopping is not None
    assert both.stopping.stopped_early
    assert [one.status for one in both.conditions] == ["passed", "passed"]
    assert [one.condition for one in both.stopping.decisions] == ["0", "0"]


def test_a_stop_rule_cannot_decide_on_changes() -> None:
    with pytest.raises(ValueError, match="`stop` decides on means, but condition 1 of `policy` is on a change"):
        stopped(condition(), condition(at_least=None, min_absolute_change=0.1))
