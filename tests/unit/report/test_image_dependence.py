"""What a report makes of image_dependence: its interval, and whose stability means nothing."""

from __future__ import annotations

import numpy as np
import pytest

import made_up_audits
from auditcore.contracts.report import Result
from auditcore.metrics.map_sketches import mean_correlations
from auditcore.metrics.statistics import summarize
from auditcore.report.image_dependence import of_pairs
from auditcore.report.warnings import image_independent, warnings_of

DIMENSIONS = 64


def result(mean: float | None, **changes: object) -> Result:
    fields = {"check": "explainer", "explainer": "gradient", "metric": "image_dependence", "variant": None,
              "unit": "correlation", "higher_is_better": None, "n": 5, "n_not_applicable": 0, "mean": mean,
              "std": 0.1, "sem": 0.05, "ci": None if mean is None else (mean - 0.1, mean + 0.12), "per_image": (),
              "reasons": {}}  # fmt: skip
    return Result.model_validate(fields | changes)


def test_only_a_mean_above_the_bound_means_independent() -> None:
    rows = (
        result(0.9, explainer="at"), result(0.9001, explainer="above"), result(-0.99, explainer="opposite"),
        result(None, explainer="unknown"), result(0.95, explainer="above", model="b"),
        result(0.99, explainer="another", metric="repeatability"), result(0.99, explainer="check", check="sweep"),
    )  # fmt: skip
    assert image_independent(rows) == {(None, "above"), ("b", "above")}
    warnings = warnings_of(made_up_audits.PLAN, (), rows)
    assert [(w.code, w.model, w.check, w.explainer) for w in warnings] == [
        ("image_independent", None, None, "above"),
        ("image_independent", "b", None, "above"),
    ]
    assert "5 different images correlate by 0.95" in warnings[1].message
    assert warnings_of(made_up_audits.PLAN, (), rows[:1]) == ()


def test_a_mean_over_pairs_spreads_more_than_its_values() -> None:
    found = of_pairs(result(0.5))
    wider = 2 * 4 / 3
    assert found.sem == pytest.approx(0.05 * wider)
    assert found.ci == pytest.approx((0.5 - 0.1 * wider, 0.5 + 0.12 * wider))
    assert (found.mean, found.std) == (0.5, 0.1)
    assert of_pairs(result(0.95)).ci == pytest.approx((0.95 - 0.1 * wider, 1.0))
    pair = of_pairs(result(0.5, n=2))
    assert (pair.sem, pair.ci) == (None, None)
    for other in (result(None), result(0.5, metric="repeatability"), result(0.5, check="sweep")):
        assert of_pairs(other) == other


@pytest.mark.parametrize("images", [4, 8, 32])
def test_intervals_contain_the_mean_as_often_as_stated(images: int) -> None:
    generator = np.random.default_rng(1)

    def unit_maps(count: int) -> np.ndarray:
        """Maps that share a direction, some more and some less."""
        shared = generator.beta(2, 2, size=(count, 1))
        own = generator.normal(size=(count, DIMENSIONS))
        own[:, 0] = 0
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        maps = np.sqrt(1 - shared**2) * own
        maps[:, :1] = shared
        return maps

    many = unit_maps(4000).sum(axis=0)
    truth = ((many**2).sum() - 4000) / (4000 * 3999)
    held = {"pairs": 0, "values": 0}
    for _ in range(200):
        values = mean_correlations(unit_maps(images))
        (found,) = summarize(values[:, None], generator=np.random.default_rng(2))
        row = result(found.mean, n=images, sem=found.sem, ci=found.ci)
        for name, ci in (("pairs", of_pairs(row).ci), ("values", row.ci)):
            assert ci is not None
            held[name] += ci[0] <= truth <= ci[1]
    assert held["pairs"] >= 0.92 * 200
    # without the correction they would be far too narrow
    assert held["values"] < 0.85 * 200
