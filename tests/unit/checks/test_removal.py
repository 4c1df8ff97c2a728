"""What the checks that remove pixels share: costs foreseen, fills of tiny images, thinned curves."""

from __future__ import annotations

import pytest
import torch

import digits
from auditcore.checks import deletion, insertion_deletion
from auditcore.checks.registry import CHECKS
from auditcore.checks.removal import blurred
from auditcore.contracts.checks import (
    Check,
    DeletionCheck,
    EddaCheck,
    InsertionDeletionCheck,
    PixelFlippingCheck,
    RankingCheck,
    RoadCheck,
)
from auditcore.contracts.explainers import GradCam, Gradient, InputXGradient
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.ranking_orders import BOTH_ORDERS, RankBy, ranked_variant
from auditcore.contracts.shards import Measurement
from auditcore.costs.estimate import BACKWARD_COST, passes_of
from auditcore.models.classifier import Classifier
from naive_removal import CountingNet, group_of, raw, run


@pytest.mark.parametrize(
    "check",
    [
        PixelFlippingCheck(),
        PixelFlippingCheck(pixels_per_step=5000, share=0.3),
        InsertionDeletionCheck(pixels_per_step=20_000),
        RoadCheck(shares=(0.1, 0.2)),
    ],
    ids=lambda check: check.kind,
)
def test_the_estimated_passes_are_those_made(check: Check) -> None:
    classifier = Classifier(CountingNet(224), preprocessing=raw(224))
    group = group_of(classifier, torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)), (Gradient(),))
    CHECKS[type(check)].compute(check, group, {})
    made = classifier.ledger.forward_images + BACKWARD_COST * classifier.ledger.backward_images
    # a group made by hand predicts its image before it is explained; the engine does both in one pass
    assert passes_of(AuditPlan(explainers=(Gradient(),), checks=(check,))) == round(made - 1)


RANKING_CHECKS: tuple[RankingCheck, ...] = (
    DeletionCheck(grid=3, repeats=1),
    EddaCheck(keep=(0.15, 0.5)),
    PixelFlippingCheck(pixels_per_step=80),
    InsertionDeletionCheck(pixels_per_step=400),
    RoadCheck(shares=(0.2, 0.6)),
)


@pytest.mark.parametrize("check", RANKING_CHECKS, ids=lambda check: check.kind)
def test_both_orders_are_those_of_two_checks(digit_classifier: Classifier, check: Check) -> None:
    explainers = (InputXGradient(), GradCam())
    images = digits.encoded(2)

    def found(rank_by: RankBy) -> dict[tuple[str, str, str | None], Measurement]:
        measured = run(digit_classifier, check.model_copy(update={"rank_by": rank_by}), explainers, images).measurements
        return {(m.explainer, m.metric, m.variant): m for m in measured if m.explainer is not None}

    alone, both = {order: found(order) for order in BOTH_ORDERS}, found("both")
    assert {m.explainer for m in both.values()} >= {"input_x_gradient", "grad_cam"}
    for (explainer, metric, variant), one in both.items():
        if one.ranked_by is None:
            assert (metric, variant) == ("rao_auc", None)
            assert one.values == alone["signed"][explainer, metric, None].values
            continue
        own = None if variant == one.ranked_by else (variant or "").removesuffix(f".{one.ranked_by}")
        assert variant == ranked_variant("both", one.ranked_by, own)
        other = alone[one.ranked_by][explainer, metric, own]
        assert other.values == pytest.approx(one.values, rel=1e-4, abs=1e-6)
        assert other.ranked_by == one.ranked_by
    # two orders of each result, and no more
    ordered = [key for key, one in both.items() if one.ranked_by is not None]
    assert len(ordered) == 2 * sum(one.ranked_by is not None for one in alone["signed"].values())
    # signs matter, or the two orders would be one
    scores = {order: [m.values for m in alone[order].values() if m.explainer != "grad_cam"] for order in BOTH_ORDERS}
    assert scores["signed"] != scores["magnitude"]


@pytest.mark.parametrize("check", RANKING_CHECKS, ids=lambda check: check.kind)
def test_auto_is_the_order_of_the_kind_of_map(digit_classifier: Classifier, check: Check) -> None:
    explainers = (InputXGradient(), GradCam())
    measured = run(digit_classifier, check, explainers, digits.encoded(1)).measurements
    orders = {(m.explainer, m.ranked_by) for m in measured if m.metric != "rao_auc"}
    expected = {("input_x_gradient", "magnitude"), ("grad_cam", "signed")}
    assert orders - {("random", "signed")} == expected
    for explainer, order in expected:
        explicit = run(digit_classifier, check.model_copy(update={"rank_by": order}), explainers, digits.encoded(1))
        values = [[m.values for m in found if m.explainer == explainer] for found in (measured, explicit.measurements)]
        assert values[0] == values[1]


def test_a_blur_shrinks_on_tiny_images() -> None:
    tiny = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(blurred(tiny, 31, 5.0), blurred(tiny, 15, 5.0))
    group = group_of(Classifier(CountingNet(8), preprocessing=raw(8)), tiny, (Gradient(),))
    games = InsertionDeletionCheck(games=("deletion_blur",))
    found = insertion_deletion.compute(games, group, {}) + deletion.compute(
        DeletionCheck(grid=2, repeats=1, fill="blur"), group, {}
    )
    assert all(measured.values[0] is not None for measured in found)
