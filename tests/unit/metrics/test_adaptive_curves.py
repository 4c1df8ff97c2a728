"""Areas of curves from few of their steps: against the definition, exact at no tolerance, never above the bound."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import reference
from auditcore.errors import ShapeError
from auditcore.metrics.adaptive_curves import COARSE_INTERVALS, AdaptiveCurves, adaptive_curves
from auditcore.metrics.curves import deletion_auc


def looking_up(curves: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """What a model would answer; no point may be asked for twice."""
    asked: set[tuple[int, int]] = set()

    def evaluate(curve: Tensor, step: Tensor) -> Tensor:
        points = list(zip(curve.tolist(), step.tolist(), strict=True))
        assert not asked.intersection(points)
        asked.update(points)
        assert len(set(points)) == len(points)
        return curves[curve, step]

    return evaluate


def adapted(curves: Tensor, tolerance: float = 0.005) -> AdaptiveCurves:
    return adaptive_curves(
        curves[:, 0],
        curves[:, -1],
        steps=curves.shape[1] - 1,
        evaluate=looking_up(curves),
        tolerance=tolerance,
    )


def falling(count: int, steps: int, *, noise: float, seed: int = 5) -> Tensor:
    """Curves that fall somewhere between slowly and at once, as those of a model, with independent noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    center, width, jitter = (
        torch.rand(count, size, generator=generator, dtype=torch.float64) for size in (1, 1, steps + 1)
    )
    return torch.sigmoid((center - x) / (0.02 + 0.2 * width)) + noise * (jitter - 0.5)


@pytest.mark.parametrize("steps", [1, 2, 23, 24, 25, 64, 196, 224])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_steps_and_errors_equal_their_definition(steps: int, noise: float) -> None:
    curves = falling(7, steps, noise=noise)
    found = adapted(curves)
    for row, curve in enumerate(curves.tolist()):
        measured, area, error, bound = reference.adaptive_curve(curve, 0.005)
        assert found.measured[row].nonzero()[:, 0].tolist() == measured
        assert deletion_auc(found.values)[row].item() == pytest.approx(area, rel=1e-9)
        assert found.estimated_error[row].item() == pytest.approx(error, rel=1e-6, abs=1e-12)
        assert found.bound[row].item() == pytest.approx(bound, rel=1e-6, abs=1e-12)


def test_measured_steps_are_kept_and_the_others_are_interpolated() -> None:
    curves = falling(5, 196, noise=0.1)
    found = adapted(curves)
    assert torch.equal(found.values[found.measured], curves[found.measured])
    for row in range(5):
        known = found.measured[row].nonzero()[:, 0]
        line = torch.from_numpy(np.interp(range(197), known.numpy(), curves[row, known].numpy()))
        torch.testing.assert_close(found.values[row], line, rtol=0, atol=1e-12)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_third_of_the_passes_is_enough(noise: float) -> None:
    curves = falling(200, 196, noise=noise)
    found = adapted(curves)
    errors = (deletion_auc(found.values) - deletion_auc(curves)).abs()
    assert errors.amax() <= 0.005
    assert found.estimated_error.amax() <= 0.005
    # two standard errors
    assert (errors <= found.estimated_error).double().mean() >= 0.95
    assert 3 * (found.measured.sum() - 2 * len(curves)) <= curves.numel() - 2 * len(curves)


def test_steps_gather_where_the_curve_bends() -> None:
    steps = 196
    curves = torch.zeros(1, steps + 1, dtype=torch.float64)
    curves[:, : steps // 2] = 1.0
    measured = adapted(curves).measured[0]
    # a cliff and two plateaus: beyond the first round, everything is next to the cliff
    spent = measured.nonzero()[:, 0]
    extra = len(spent) - (COARSE_INTERVALS + 1)
    assert 3 <= extra < 20
    assert measured[steps // 2 - 1] or measured[steps // 2]
    assert measured[:80].sum() <= 11


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), steps=st.integers(2, 120), power=st.floats(0.1, 8))
def test_monotone_curves_are_never_off_by_more_than_the_bound(seed: int, steps: int, power: float) -> None:
    drops = torch.rand(3, steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** (10 * power)
    curves = 1 - torch.cat((torch.zeros(3, 1), drops), dim=1).cumsum(dim=1) / drops.sum(dim=1, keepdim=True)
    for tolerance in (0.1, 0.02):
        found = adapted(curves, tolerance)
        errors = (deletion_auc(found.values) - deletion_auc(curves)).abs()
        assert (errors <= found.bound + 1e-12).all()


def test_without_tolerance_every_step_is_measured() -> None:
    curves = falling(6, 196, noise=0.05)
    found = adapted(curves, 1e-9)
    assert found.measured.all()
    assert torch.equal(found.values, curves)
    assert torch.equal(found.estimated_error, torch.zeros(6, dtype=torch.float64))
    assert torch.equal(found.bound, torch.zeros(6, dtype=torch.float64))


def test_a_tighter_tolerance_costs_more_steps() -> None:
    curves = falling(20, 224, noise=0.1)
    spent = [int(adapted(curves, tolerance).measured.sum()) for tolerance in (0.05, 0.01, 0.005, 0.001)]
    assert spent == sorted(spent)
    assert len(set(spent)) == len(spent)


def test_other_curves_do_not_matter() -> None:
    curves = falling(9, 196, noise=0.1)
    together = adapted(curves)
    for row in range(9):
        alone = adapted(curves[row : row + 1])
        assert torch.equal(together.measured[row], alone.measured[0])
        for joint, single in zip(together, alone, strict=True):
            torch.testing.assert_close(joint[row], single[0], rtol=1e-12, atol=0)


def test_no_curve_needs_no_step() -> None:
    found = adapted(torch.zeros(0, 197))
    assert found.values.shape == (0, 197)
    assert found.bound.shape == (0,)


def test_an_undefined_value_does_not_run_forever() -> None:
    curves = falling(2, 64, noise=0.0)
    curves[0, 30:40] = torch.nan
    found = adapted(curves)
    assert math.isnan(deletion_auc(found.values)[0])
    assert not math.isnan(deletion_auc(found.values)[1])


@pytest.mark.parametrize(
    ("steps", "last", "tolerance"), [(0, 3, 0.1), (10, 2, 0.1), (10, 3, 0.0), (10, 3, -1.0), (10, 3, math.nan)]
)
def test_wrong_shapes_and_tolerances_are_refused(steps: int, last: int, tolerance: float) -> None:
    def evaluate(_curve: Tensor, step: Tensor) -> Tensor:
        return step.double()

    with pytest.raises(ShapeError):
        adaptive_curves(torch.ones(3), torch.zeros(last), steps=steps, evaluate=evaluate, tolerance=tolerance)
