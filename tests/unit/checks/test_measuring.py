"""How numbers become measurements: gaps with their reasons, meaning from one table."""

from __future__ import annotations

import math

import pytest

from auditcore.checks.measuring import measurement, not_applicable
from auditcore.contracts.augmentations import Hue, Rotate
from auditcore.contracts.checks import DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.metrics import METRICS

DELETION = DeletionCheck(name="mine")


def test_undefined_values_are_null_with_a_reason_under_the_index_of_the_image() -> None:
    found = measurement(
        DELETION, "srg", [0.0, math.nan, math.inf], indices=(3, 5, 8), explainer="gradient", undefined="why"
    )
    assert found.values == (0.0, None, None)
    assert found.reasons == {5: "why", 8: "why"}
    reasons = {0: "a", 1: "b", 2: "c"}
    found = measurement(DELETION, "srg", [0.0, math.nan, math.nan], indices=(3, 5, 8), undefined=reasons)
    assert found.reasons == {5: "b", 8: "c"}


def test_a_curve_keeps_the_points_it_has() -> None:
    curve = ([0.0, 0.5, 1.0], [[1.0, math.nan, 0.25], [math.nan] * 3])
    found = measurement(DELETION, "lerf_auc", [0.5, 0.5], indices=(0, 1), curve=curve)
    assert found.curve is not None
    assert found.curve.x == (0.0, 0.5, 1.0)
    assert found.curve.values == ((1.0, None, 0.25), None)


@pytest.mark.parametrize("metric", METRICS["deletion"])
def test_meaning_comes_from_the_table(metric: str) -> None:
    found = measurement(DELETION, metric, [0.5], indices=(0,), explainer="gradient")
    meaning = METRICS["deletion"][metric]
    assert (found.check, found.explainer, found.metric) == ("mine", "gradient", metric)
    assert (found.unit, found.higher_is_better) == (meaning.unit, meaning.higher_is_better)


def test_controls_are_marked_by_metric_or_by_hand() -> None:
    sweep = SweepCheck()
    assert measurement(sweep, "top_k_chance", [0.5], indices=(0,)).control
    assert measurement(None, "conservation", [0.5], indices=(0,)).control
    assert measurement(None, "conservation", [0.5], indices=(0,)).check == "explainer"
    assert not measurement(sweep, "s_pearson", [0.5], indices=(0,)).control
    assert measurement(sweep, "s_pearson", [0.5], indices=(0,), control=True).control


def test_an_explainer_that_cannot_run_leaves_every_row_it_would_have_had() -> None:
    found = not_applicable(SweepCheck(augmentations=(Rotate(), Hue())), "cam", "no layer", indices=(2, 4))
    assert {(m.metric, m.variant) for m in found} == {
        (metric, augmentation)
        for metric in ("pearson_score", "top_k_score", "s_pearson", "s_top_k")
        for augmentation in ("rotate", "hue", *(("mean",) if metric.startswith("s_") else ()))
    }
    assert all(m.values == (None, None) and m.reasons == {2: "no layer", 4: "no layer"} for m in found)
    edda = not_applicable(EddaCheck(keep=(0.15, 0.5)), "cam", "no layer", indices=(0,))
    assert {(m.metric, m.variant) for m in edda} == {
        (metric, top)
        for metric, meaning in METRICS["edda"].items()
        if not meaning.control
        for top in ("top_15", "top_50")
    }
